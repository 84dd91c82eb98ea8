//! Answers of several tokens through the program, on every architecture, and with adapters.

use super::*;

/// A whole analysis with a label word of several tokens, and the same kernels by hand.
#[test]
fn label_words_of_several_tokens_run_through_the_program() {
    let scratch = Scratch::new();
    let run = |command: &str| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = scratch.run(&words);
        assert_eq!(answer.code, Some(0), "{command}: {}", answer.stderr);
        answer.stdout
    };
    run(
        "analyze --model model --dtype f64 --device cpu --threads 1 --test-limit 8 --batch 8 --steps 4 --eval-every 2 \
         --train-batch-size 4 --lr-sgd 1e-2 --lr-adam 1e-3 --label-words xylo,good --out-dir out",
    );
    let report = fs::read_to_string(scratch.path("out/report.md")).expect("a report");
    for said in [
        "the difference of the two answers' log-probabilities",
        "Label words of several tokens (",
        "class whose label word is likeliest is the answer",
    ] {
        assert!(report.contains(said), "{said}: {report}");
    }
    run(
        "kernel --model model --dtype f64 --device cpu --label-words xylo,good --output-mode logits --out K.safetensors",
    );
    let file = KernelFile::read(&scratch.path("K.safetensors")).expect("a kernel file");
    assert_eq!(file.metadata["output_mode"], "log-probabilities");
    let network = Pretrained::load(&scratch.path("model"), Dtype::F64, Device::Cpu).expect("a network");
    let (definition, splits) = (demo_definition().expect("a task"), demo().expect("its examples"));
    let words = Overrides { label_words: Some("xylo,good".into()), ..Overrides::default() };
    let definition = definition.with(&words).expect("other words");
    let task = PromptedTask::new(&definition, &network.tokenizer, &splits).expect("a task");
    let id = |token: &str| network.tokenizer.token_to_id(token).expect("a token");
    let answers = vec![["x", "##y", "##l", "##o"].map(id).to_vec(), vec![id("good")]];
    assert_eq!(task.words, answers);
    let example = |p: &Prompt| {
        let (input_ids, segment_ids) = (p.input_ids.clone(), p.segment_ids.clone());
        let prompt = PromptExample { input_ids, segment_ids, mask_position: p.mask_pos };
        AnsweredExample { prompt, answers: answers.clone() }
    };
    let examples: Vec<AnsweredExample> = task.train.iter().map(example).collect();
    let examples = AnswerExamples::new(&*network.model, &examples, OutputMode::Logits, Device::Cpu).expect("examples");
    let p = &network.parameters;
    let gram = structured_gram(p, &examples, None, &options(p, (8, 1 << 20, 1 << 30)), &Silent).expect("a kernel");
    for formula in Formula::ALL {
        let found = file.get(&format!("kernel.{formula}")).expect("computed");
        let expected = gram.matrix(formula).expect("computed").view_as(found);
        let error = relative_error(found, &expected);
        assert!(error <= if formula == Formula::Signgd { 0.0 } else { 1e-12 }, "{formula}: {error:.2e}");
    }
}

/// Every architecture of the fixtures: both engines agree, and sharing sequences between answers changes nothing. Tolerances as
/// in the parent module.
#[test]
fn every_architecture_reads_answers() {
    one_thread();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/architectures");
    let mut folders: Vec<PathBuf> =
        ["albert", "albert-groups", "distilbert", "electra"].map(|n| fixtures.join(n)).into();
    folders.extend(fs::read_dir(fixtures.join("parts")).expect("the fixtures").map(|e| e.expect("an entry").path()));
    assert!(folders.len() >= 27);
    let (first, second, third) = (vec![17, 31], vec![22], vec![17, 8]);
    for folder in folders {
        let golden = Golden::read(&folder, Kind::Double);
        let (name, p) = (folder.display(), &golden.parameters);
        let examples = |answers: &[&Vec<i64>], mode| {
            let answers: Vec<Vec<i64>> = answers.iter().map(|a| (*a).clone()).collect();
            let prompts = golden_prompts(&golden.values).into_iter().filter(|p| p.input_ids.len() < 14);
            let examples: Vec<_> = prompts.map(|prompt| AnsweredExample { prompt, answers: answers.clone() }).collect();
            let examples = AnswerExamples::new(&*golden.model, &examples, mode, Device::Cpu).expect("valid examples");
            // Roundings to single precision depend on the order of a batch.
            examples.rounded(Roundings::None)
        };
        let f = |answers: &[&Vec<i64>], mode| outputs(p, &examples(answers, mode), 2);
        let alone = [&first, &second, &third].map(|answer| f(&[answer], OutputMode::Logits));
        let together = f(&[&first, &second, &third], OutputMode::Logits);
        assert!(relative_error(&together, &Tensor::cat(&alone, 1)) <= 1e-12, "{name}");
        let difference = f(&[&first, &third], OutputMode::Difference);
        assert!(relative_error(&difference, &(&alone[2] - &alone[0])) <= 1e-11, "{name}");
        for (answers, mode) in [
            (vec![&first, &second, &third], OutputMode::Logits),
            (vec![&first, &third], OutputMode::Difference),
            (vec![&second, &third], OutputMode::Difference),
        ] {
            let examples = examples(&answers, mode);
            let reference =
                reference_gram(p, &examples, None, FormulaSet::ALL, &vec![true; p.len()]).expect("reference");
            let gram =
                structured_gram(p, &examples, None, &options(p, (2, 900, 1 << 30)), &Silent).expect("structured");
            for (formula, tolerance) in [(Formula::Sgd, 1e-10), (Formula::Asymmetric, 1e-10), (Formula::Signgd, 0.0)] {
                let (found, expected) = (gram.matrix(formula), reference.matrix(formula));
                let error = relative_error(found.expect("computed"), expected.expect("computed"));
                assert!(error <= tolerance, "{name} {mode:?} {formula}: {error:.2e}");
            }
        }
    }
}

/// An adapter of the decoder applies to the logits of the whole vocabulary, as to those of label words.
#[test]
fn adapters_of_the_decoder_are_heard() {
    one_thread();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (name, base) in [("bert-decoder", "checkpoints/head-bert"), ("llama-tables", "adapters/llama")] {
        let (model, parameters) = lm::load(&fixtures.join(base), Kind::Double, Device::Cpu).expect("a model");
        let values = read_tensors(&fixtures.join("adapters").join(name).join("golden.safetensors"));
        let adapter = PeftAdapter::load(&fixtures.join("adapters").join(name), model.specs()).expect("an adapter");
        let extended = adapter.parameters(&parameters);
        let prompts = golden_prompts(&values);
        let plain = PromptExamples::new(&*model, prompts.clone(), &[17, 22], OutputMode::Difference, Device::Cpu);
        let plain = plain.expect("valid examples");
        let answers = vec![vec![17], vec![22]];
        let answered: Vec<_> =
            prompts.into_iter().map(|prompt| AnsweredExample { prompt, answers: answers.clone() }).collect();
        let answered =
            AnswerExamples::new(&*model, &answered, OutputMode::Difference, Device::Cpu).expect("valid examples");
        let include = adapter.lora.include(Trained::Adapters);
        let of = |examples: &dyn Examples| {
            let options = GramOptions { include: include.clone(), ..options(&extended, (2, 900, 1 << 30)) };
            structured_gram(&extended, &adapter.lora.examples(examples), None, &options, &Silent).expect("structured")
        };
        let (a, b) = (of(&plain), of(&answered));
        assert!(relative_error(&b.left_outputs, &a.left_outputs) <= 1e-12, "{name}");
        for formula in Formula::ALL {
            let error = relative_error(b.matrix(formula).expect("computed"), a.matrix(formula).expect("computed"));
            assert!(error <= if formula == Formula::Signgd { 0.0 } else { 1e-11 }, "{name} {formula}: {error:.2e}");
        }
        assert!(
            relative_error(&b.left_outputs, &outputs(&parameters, &plain, 2)) > 1e-3,
            "{name}: the adapter does nothing"
        );
    }
}
