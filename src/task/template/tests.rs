use proptest::prelude::*;

use super::literal::literal_source;
use super::literal::normal_literal;
use super::parse::{Parsed, parse_piece};
use super::*;

fn parse_part(piece: &str) -> std::result::Result<Part, String> {
    parse_piece(piece).map(|parsed| match parsed {
        Parsed::Part(part) => part,
        Parsed::Choice(choice) => panic!("{choice:?}"),
    })
}

fn part() -> impl Strategy<Value = Part> {
    let letter = prop_oneof![Just(FirstLetter::Keep), Just(FirstLetter::Lower), Just(FirstLetter::Upper)];
    prop_oneof![
        Just(Part::Cls),
        any::<bool>().prop_map(|next_segment| Part::Sep { next_segment }),
        (0..1000_usize, any::<bool>(), letter, any::<bool>()).prop_map(
            |(index, space_before, first_letter, drop_last)| {
                Part::Sentence(Sentence { index, space_before, first_letter, drop_last })
            }
        ),
        (0..1000_usize).prop_map(Part::Label),
        r"[ a-zäß.,:?_*\\\n\t\r]{1,12}"
            .prop_map(|text| literal_source(&text))
            .prop_filter("reads as a variable", |source| matches!(parse_part(source), Ok(Part::Literal(_))))
            .prop_map(Part::Literal),
    ]
}

proptest! {
    /// Whatever parses is written so that it parses to the same; any parts around a mask can be written.
    #[test]
    fn display_and_parse_are_inverse(
        before in prop::collection::vec(part(), 0..6),
        after in prop::collection::vec(part(), 0..6),
    ) {
        let parts: Vec<_> = before.into_iter().chain([Part::Mask]).chain(after).collect();
        let written = Template { parts: parts.clone(), choice: None }.to_string();
        prop_assert_eq!(Template::parse(&written).unwrap().parts, parts);
    }

    /// No string makes the parser panic, and what it accepts it writes back.
    #[test]
    fn any_string_is_parsed_or_refused(source in r"(\*|_|\\|\n|cls|mask|sep|\+|sent|label|reply|l|u|-|[0-9]|é|.){0,14}") {
        if let Ok(template) = Template::parse(&source) {
            prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
        }
    }

    /// A literal's source stands for its text, and can be parsed.
    #[test]
    fn literals_stand_for_their_texts(text in r"[ a-z_*\\\n\t\r|<>é]{1,12}") {
        let source = literal_source(&text);
        prop_assert_eq!(literal_text(&source, &[]), text.clone());
        prop_assert_eq!(normal_literal(&source).unwrap(), source);
    }

    /// A text part changes its text as its name says, for any Unicode text.
    #[test]
    fn sentence_parts_follow_their_names(text in ".{0,12}") {
        let apply = |name: &str| match parse_part(name).unwrap() {
            Part::Sentence(sentence) => sentence.apply(&text),
            other => panic!("{other:?}"),
        };
        let characters: Vec<char> = text.chars().collect();
        let shorter: String = characters[..characters.len().saturating_sub(1)].iter().collect();
        let rest: String = characters.iter().skip(1).collect();
        let first: String = characters.iter().take(1).collect();
        prop_assert_eq!(apply("sent_0"), text.clone());
        prop_assert_eq!(apply("+sent_0"), format!(" {text}"));
        prop_assert_eq!(apply("sent-_0"), shorter);
        prop_assert_eq!(apply("sentl_0"), format!("{}{rest}", first.to_lowercase()));
        prop_assert_eq!(apply("+sentu_0"), format!(" {}{rest}", first.to_uppercase()));
    }
}

#[test]
fn the_language_in_examples() {
    let template = Template::parse("*cls**sent-_0*?*mask*,*+sentl_1**sep+*").unwrap();
    assert_eq!(template.parts().len(), 7);
    assert_eq!((template.text_count(), template.label_count(), template.segment_count()), (2, 0, 1));
    assert_eq!(template.parts()[2], Part::Literal("?".to_string()));
    let two = Template::parse("*cls**sent_0**sep+**mask**label_1*a*b*sep*").unwrap();
    assert_eq!((two.segment_count(), two.label_count()), (2, 2));
    for english in ["*mask*sentence", "*mask*_sent_away", "*mask*label", "*mask*_masked", "*mask*_labels_are"] {
        assert!(Template::parse(english).is_ok(), "{english}");
    }
    // Spaces at an end, escapes and short texts are no typing errors, and words are not those of a mask that there is.
    for text in [
        "_snet_0",
        "snet_0:_",
        r"snet\_0",
        "seq",
        "sp+",
        "_step",
        "Step_1",
        "step_by_step",
        "task",
        "Is_it?",
        "Text_1",
        "Table_1",
        "level_1",
        "set1",
        "step",
        "replay",
        "reply:",
        "sep.",
        "A+",
    ] {
        assert!(Template::parse(&format!("*sent_0*{text}*mask*")).is_ok(), "{text}");
    }
}

#[test]
fn tokens_by_name_line_ends_and_plain_characters() {
    let names = ["<|im_start|>".to_string(), "__".to_string(), "[E_1]".to_string()];
    let text = |source: &str| {
        let template = Template::parse(&format!("{source}*mask*")).unwrap();
        let Part::Literal(literal) = &template.parts()[0] else { panic!("{template:?}") };
        assert_eq!(template.to_string(), format!("{literal}*mask*"));
        literal_text(literal, &names)
    };
    assert_eq!(text("<|im_start|>user\n"), "<|im_start|>user\n");
    assert_eq!(text(r"<|im_start|>user\nIt_was"), "<|im_start|>user\nIt was");
    assert_eq!(text(r"a\_b\*c\\d__e"), r"a_b*c\d  e");
    assert_eq!(text("a_[E_1]_b_[E_2]"), "a [E_1] b [E 2]");
}

#[test]
fn errors_name_the_part_and_list_the_variables() {
    let problem = |source: &str| {
        let message = Template::parse(source).unwrap_err().to_string();
        assert!(message.contains(KNOWN_VARIABLES) && message.contains(source), "{message}");
        message
    };
    for (source, part) in [
        ("*cls**sent_x**mask*", "`sent_x` is not a variable (a number counted from 0 must follow its `_`)"),
        ("*sent0**mask*", "`sent0` is not a variable"),
        ("*+sentl**mask*", "`+sentl` is not a variable"),
        ("*sent_1234**mask*", "`sent_1234` is not a variable"),
        ("*label_yes**mask*", "`label_yes` is not a variable"),
        ("*_sent_0**mask*", "`_sent_0` is not a variable (write `sent_0`)"),
        ("*MASK*", "`MASK` is not a variable (write `mask`)"),
        (
            "*cls**snet_0**sent_0**mask*",
            "`snet_0` is not a variable (did you mean `*sent_0*`? as text it needs a space in front: `_snet_0`)",
        ),
        ("*sent_0**mask*.*sepp+*", "`sepp+` is not a variable (did you mean `*sep+*`?"),
        ("*sent_0**+snet-_1**mask*", "`+snet-_1` is not a variable (did you mean `*+sent-_1*`?"),
        ("*sent_0**mask*lable 12*", "`lable_12` is not a variable (did you mean `*label_12*`?"),
        ("*cls**sent_0*", "it has no `mask` part, but exactly one is needed; the variables"),
        (
            "*sent_0*_It_was*maks*.",
            "it has no `mask` part, but exactly one is needed (did you mean `*mask*` by `maks`?); the variables",
        ),
        ("*sent_0**choise*", "(did you mean `*choice*` by `choise`?)"),
        ("", "it has no `mask` part"),
        ("*mask**mask*", "it has 2 `mask` parts, but exactly one is needed"),
        (r"a\x*mask*", r"unknown escape `\x`; known are \n, \t, \r, \_, \* and \\"),
        (r"*mask*a\", r"it ends in a single `\`"),
        ("*reply**reply**mask*", "it has several `reply` parts"),
    ] {
        assert!(problem(source).contains(part), "{}", problem(source));
    }
}
