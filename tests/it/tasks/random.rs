//! Laws on random texts.

use super::*;

proptest! {
    /// Whatever the texts, a prompt keeps its limit and has one mask at the stated position, or it is refused.
    #[test]
    fn random_texts_give_prompts_within_their_limits(
        texts in prop::collection::vec(r"([a-zA-Z ,.?]|\[MASK\]|\[SEP\]|ß|猫|.){0,60}", 2),
        max_length in 1..80_usize,
        first in 0..40_usize,
        other in 0..20_usize,
        name in prop::sample::select(BUILTIN_NAMES.to_vec()),
    ) {
        thread_local!(static TOKENIZER: PromptTokenizer = word_piece(&LABEL_WORDS));
        let overrides = Overrides {
            max_length: Some(max_length),
            first_sentence_limit: Some(first),
            other_sentence_limit: Some(other),
            segments: Some(true),
            ..Overrides::default()
        };
        let task = builtin(name).unwrap().with(&overrides).unwrap();
        TOKENIZER.with(|tokenizer| {
            let mask = tokenizer.require(SpecialToken::Mask).unwrap();
            let sep = tokenizer.require(SpecialToken::Sep).unwrap();
            let example = Example { texts, choices: Vec::new(), label: 1, row: 3 };
            match encode(&task, tokenizer, std::slice::from_ref(&example), Path::new("x.tsv")) {
                Ok(prompts) => {
                    let prompt = &prompts[0];
                    prop_assert!(prompt.input_ids.len() <= max_length);
                    prop_assert_eq!(prompt.segment_ids.len(), prompt.input_ids.len());
                    prop_assert_eq!(prompt.input_ids[prompt.mask_pos], mask);
                    // A text may contain the mask's name, which is then the mask.
                    let named = example.texts.iter().any(|text| text.contains("[MASK]"));
                    prop_assert!(named || prompt.input_ids.iter().filter(|id| **id == mask).count() == 1);
                    prop_assert_eq!((prompt.label, prompt.row), (1, 3));
                    // Cut from the tail: the longer prompt starts with the shorter one.
                    let whole = Overrides { max_length: Some(10_000), ..Overrides::default() };
                    let whole = encode(&task.clone().with(&whole).unwrap(), tokenizer, &[example], Path::new("x.tsv"));
                    prop_assert!(whole.unwrap()[0].input_ids.starts_with(&prompt.input_ids));
                    prop_assert!(prompt.input_ids.len() == max_length || prompt.input_ids.ends_with(&[sep]));
                }
                Err(error) => prop_assert!(error.to_string().starts_with("x.tsv, row 3: the mask would be token ")),
            }
            Ok(())
        })?;
    }

    /// The limit in the message is right: with it the mask is kept.
    #[test]
    fn the_way_out_of_a_lost_mask_works(length in 4..60_usize, max_length in 3..20_usize) {
        let tokenizer = word_piece(&[]);
        let task = TaskDefinition::new("own", "*cls**sent_0**mask*", "a,b").unwrap();
        let run = |overrides: Overrides| {
            let task = task.clone().with(&Overrides { max_length: Some(max_length), ..overrides }).unwrap();
            let example = Example { texts: vec!["x".repeat(length)], choices: Vec::new(), label: 0, row: 2 };
            encode(&task, &tokenizer, &[example], Path::new("x.tsv"))
        };
        if let Err(error) = run(Overrides::default()) {
            let error = error.to_string();
            let limit = error.split("setting `first_sentence_limit` ").nth(1).and_then(|rest| rest.split(' ').next());
            let limit = limit.unwrap().parse().unwrap();
            let fixed = run(Overrides { first_sentence_limit: Some(limit), ..Overrides::default() }).unwrap();
            prop_assert_eq!(fixed[0].input_ids.len(), max_length);
        }
    }

    /// A row written as quoted CSV is read back unchanged, with its line, whatever the texts contain.
    #[test]
    fn rows_round_trip_through_csv(
        rows in prop::collection::vec((r#"([a-z",;'\t\n]|é|[^\x00]){0,20}[a-z]"#, r#"([a-z",\n]|[^\x00]){0,20}[a-z]"#, 0..2_usize), 1..8),
    ) {
        let task = TaskDefinition::new("own", "*sent_0**mask**sent_1*", "no=bad,yes=good").unwrap();
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["label", "text2", "text"]).unwrap();
        let mut line = 2;
        let mut expected = Vec::new();
        for (first, second, label) in rows {
            writer.write_record([&task.label_words[label].label, &second, &first]).unwrap();
            let row = line;
            line += 1 + first.matches('\n').count() + second.matches('\n').count();
            expected.push(Example { texts: vec![first, second], choices: Vec::new(), label, row });
        }
        let bytes = writer.into_inner().unwrap();
        prop_assert_eq!(parse_examples(Path::new("x.csv"), &bytes, &task).unwrap(), expected);
    }

    /// No bytes make a reader panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\t'), Just(b','), Just(b'"'), Just(b'1'), any::<u8>()], 0..60),
        name in prop::sample::select(BUILTIN_NAMES.to_vec()),
        named in any::<bool>(),
    ) {
        let mut task = builtin(name).unwrap();
        let mut content = Vec::new();
        if named {
            task.format = DataFormat::Named;
            content.extend_from_slice(b"text,text2,label\n");
        }
        content.extend_from_slice(&bytes);
        if let Ok(examples) = parse_examples(Path::new("x.csv"), &content, &task) {
            prop_assert!(examples.iter().all(|example| example.label < task.label_words.len()));
        }
    }
}
