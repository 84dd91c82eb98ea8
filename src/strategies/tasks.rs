//! Templates, prompts as token ids, and whole tasks.

use proptest::prelude::*;

use crate::task::{TaskDefinition, Template};

/// A template in LM-BFF's language: up to five parts on either side of its mask, texts in every form and literals. Shrinks
/// towards fewer parts.
pub fn template() -> impl Strategy<Value = Template> {
    let variable = proptest::sample::select(vec![
        "cls",
        "sep",
        "sep+",
        "sent_0",
        "+sent_0",
        "sent-_0",
        "sentl_0",
        "+sentu_0",
        "sent_1",
        "+sentl-_1",
    ]);
    let part = prop_oneof![variable.prop_map(str::to_owned), "[a-z]{1,6}(_[a-z]{1,4}){0,2}[.,:?]?"];
    let parts = || proptest::collection::vec(part.clone(), 0..6);
    (parts(), parts()).prop_filter_map("a literal reads as a variable", |(before, after)| {
        let pieces: Vec<String> = before.into_iter().chain(["mask".to_owned()]).chain(after).collect();
        Template::parse(&format!("*{}*", pieces.join("**"))).ok()
    })
}

/// A prompt as a network sees it: one to `longest` token ids from 2 to `vocabulary` - 1, and the position to read. Shrinks
/// towards one token.
pub fn prompt(vocabulary: i64, longest: usize) -> impl Strategy<Value = (Vec<i64>, usize)> {
    proptest::collection::vec(2..vocabulary, 1..=longest)
        .prop_flat_map(|tokens| (0..tokens.len()).prop_map(move |read| (tokens.clone(), read)))
}

/// A task with two to four classes over one text followed by the mask, for masked and causal models.
pub fn task() -> impl Strategy<Value = TaskDefinition> {
    let words = proptest::sample::subsequence(vec!["bad", "good", "great", "fine", "poor", "dull"], 2..=4);
    let sentence = proptest::sample::select(vec!["It_was", "All_in_all,_it_was"]);
    (words.prop_shuffle(), sentence).prop_map(|(words, sentence)| {
        let template = format!("*cls**sent_0*_{sentence}*mask*.*sep+*");
        TaskDefinition::new("drawn", &template, &words.join(",")).expect("a valid task")
    })
}
