//! Splits a paragraph into sentences, and a sentence at its only label word.
//!
//! Deliberately simple: a wrongly split sentence usually does not look like one and is skipped, and a large text has enough
//! others. May not know tasks or data files.

/// Marks that end a sentence.
const END_MARKS: [char; 3] = ['.', '!', '?'];
/// Characters allowed between a sentence's end mark and its end.
const CLOSING: [char; 6] = ['"', '\'', '”', '’', ')', ']'];
/// Characters allowed before a sentence's first letter.
const OPENING: [char; 6] = ['"', '\'', '“', '‘', '(', '['];
/// Characters that join the letters on both sides into one word: `he'll`, `he-goat`, and emphasis in plain texts.
const JOINING: [char; 7] = ['\'', '’', '-', '‐', '‑', '_', '*'];
/// Abbreviations, after which a full stop followed by a capital does not end a sentence.
const ABBREVIATIONS: [&str; 14] =
    ["Mr", "Mrs", "Messrs", "Mme", "Mlle", "Dr", "St", "Rev", "Hon", "Prof", "Col", "Capt", "Gen", "Lieut"];

/// The complete sentences of a paragraph, in order, trimmed. Text after the last end mark is dropped.
pub(super) fn sentences(paragraph: &str) -> impl Iterator<Item = &str> {
    let mut rest = paragraph.trim_start();
    std::iter::from_fn(move || {
        let end = sentence_end(rest)?;
        let (sentence, others) = rest.split_at(end);
        rest = others.trim_start();
        Some(sentence)
    })
}

/// Where the first sentence of a text ends: after an end mark with its quotation marks, before the text's end or before
/// white space and something that looks like a beginning.
fn sentence_end(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = text[from..].find(END_MARKS) {
        let mark = from + found;
        let after = text[mark..].trim_start_matches(END_MARKS).trim_start_matches(CLOSING);
        let end = text.len() - after.len();
        let spaced = after.is_empty() || after.starts_with(char::is_whitespace);
        let next = after.trim_start();
        if spaced && (next.is_empty() || begins(next)) && !(text[mark..].starts_with('.') && abbreviated(&text[..mark]))
        {
            return Some(end);
        }
        from = end;
    }
    None
}

/// Whether a text begins like a sentence: with a capital, possibly after quotation marks.
fn begins(text: &str) -> bool {
    text.trim_start_matches(OPENING).starts_with(char::is_uppercase)
}

/// Whether a text ends with an initial or abbreviation that precedes a name.
fn abbreviated(text: &str) -> bool {
    let start = text.trim_end_matches(char::is_alphanumeric).len();
    let word = &text[start..];
    let initial = word.chars().count() == 1 && word.starts_with(char::is_uppercase);
    // `I` ends sentences more often than it is an initial.
    (initial && word != "I") || ABBREVIATIONS.contains(&word)
}

/// The text before the only label word of a sentence, without the space between, the word's index, and the text after it.
/// `None` if the sentence is not usable; see [`draw`](super::draw) for the conditions.
pub(super) fn cut<'a>(sentence: &'a str, words: &[impl AsRef<str>]) -> Option<(&'a str, usize, &'a str)> {
    if !begins(sentence) || sentence.contains(char::is_control) {
        return None;
    }
    let mut hits = runs(sentence).filter_map(|(at, run)| Some((at, run, label(run, words)?)));
    let (at, run, label) = hits.next()?;
    if hits.next().is_some() || run != words[label].as_ref() {
        return None;
    }
    let before = sentence[..at].strip_suffix(' ')?;
    let after = &sentence[at + run.len()..];
    let whole = !after.starts_with(JOINING) && !after.is_empty();
    let inside = before.ends_with(|c: char| !c.is_whitespace()) && before.contains(char::is_alphanumeric);
    (whole && inside).then_some((before, label, after))
}

/// The label word that a run of letters is, ignoring case.
fn label(run: &str, words: &[impl AsRef<str>]) -> Option<usize> {
    words.iter().position(|word| run.chars().flat_map(char::to_lowercase).eq(word.as_ref().chars()))
}

/// The runs of letters and digits in a text, with their positions.
fn runs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(char::is_alphanumeric)?;
        let rest = &text[start..];
        let length = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        at = start + length;
        Some((start, &rest[..length]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_fall_into_sentences() {
        for (paragraph, expected) in [
            ("He came. She went! Did they?", vec!["He came.", "She went!", "Did they?"]),
            ("\"Is it he?\" she asked. \"It is I.\" Then", vec!["\"Is it he?\" she asked.", "\"It is I.\""]),
            ("Mr. J. Hale met St. Clair... Nobody knew.", vec!["Mr. J. Hale met St. Clair...", "Nobody knew."]),
            ("It cost 3.50 in all, viz. too much.", vec!["It cost 3.50 in all, viz. too much."]),
            ("“Go!” “I will not.” (So it went.)", vec!["“Go!”", "“I will not.”", "(So it went.)"]),
            ("It was I. Nobody else.", vec!["It was I.", "Nobody else."]),
            ("no end mark, no sentence", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(sentences(paragraph).collect::<Vec<_>>(), expected, "{paragraph}");
        }
    }

    #[test]
    fn sentences_are_cut_at_their_only_label_word() {
        let cut = |sentence| cut(sentence, &["he", "she"]);
        assert_eq!(cut("The queen said that she would come."), Some(("The queen said that", 1, " would come.")));
        assert_eq!(cut("“Nobody but he.”"), Some(("“Nobody but", 0, ".”")));
        assert_eq!(cut("Then he, the elder, spoke."), Some(("Then", 0, ", the elder, spoke.")));
        for refused in [
            "He came alone.",                   // first, and a capital
            "Then he saw that she slept.",      // two label words
            "Then he saw that he slept.",       // one of them twice
            "She said that he slept.",          // another one with a capital
            "I know he'll come, said the man.", // half a word
            "I saw the he-goat and the she-bear.",
            "I saw a he’s and nothing more.",
            "I mean _he_ and nobody else.",
            "I mean (he and nobody else).", // no space in front
            "then she would come.",         // no beginning
            "Then\tshe would come.",
            "The others heard there.",
        ] {
            assert_eq!(cut(refused), None, "{refused}");
        }
    }
}
