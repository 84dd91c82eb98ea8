//! GGUF files: the same model as the checkpoint they were made from, the values of quantized blocks, the tokenizer in the
//! metadata, and refusals.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::causal::{Field, GgufFile, config_json, gguf, tensors, write};
use crate::common::shared;
use kernelview::error::Error;
use kernelview::gguf::Gguf;
use kernelview::jacobian::{Examples, Parameters, outputs};
use kernelview::lm::{
    self, CausalArchitecture, CausalLm, LanguageModel, OutputMode, PromptExample, PromptExamples, random,
};
use kernelview::task::{Example, Overrides, PromptTokenizer, PromptedTask, Reading, Split, Splits, TaskDefinition};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

const VOCABULARY: i64 = 19;

pub fn network(architecture: CausalArchitecture, tied: bool) -> (CausalLm, Parameters) {
    crate::common::one_thread();
    let mut config = random::tiny_causal(architecture, VOCABULARY);
    config.tied_decoder = tied;
    let model = CausalLm::new(config);
    let parameters = random::parameters(&model, 3, 1.5, Kind::Float, Device::Cpu);
    (model, parameters)
}

pub fn written(file: &GgufFile) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("tiny.gguf");
    fs::write(&path, file.bytes()).expect("a file");
    (directory, path)
}

fn logits(model: &dyn LanguageModel, parameters: &Parameters) -> Tensor {
    let prompts = [vec![2, 17, 8, 4, 11], vec![4], vec![9, 9, 3]].map(|ids| PromptExample {
        segment_ids: vec![0; ids.len()],
        mask_position: ids.len() - 1,
        input_ids: ids,
    });
    let mode = OutputMode::Logits;
    let examples = PromptExamples::new(model, prompts.to_vec(), &[6, 12, 1], mode, Device::Cpu).expect("valid prompts");
    outputs(parameters, &examples, examples.len())
}

/// Fails for: a name mapped to another part, rotated entries left in the file's order.
#[test]
fn a_file_gives_the_model_of_the_checkpoint() {
    for architecture in [CausalArchitecture::Llama, CausalArchitecture::Qwen2] {
        for tied in [true, false] {
            let (model, parameters) = network(architecture, tied);
            let hugging_face = tempfile::tempdir().expect("a temporary directory");
            write(hugging_face.path(), &config_json(model.config()), &tensors(&parameters));
            let (directory, path) = written(&gguf(model.config(), &parameters));
            let expected = lm::load(hugging_face.path(), Kind::Double, Device::Cpu).expect("a checkpoint");
            for place in [&path, &directory.path().to_path_buf()] {
                let (found, values) = lm::load(place, Kind::Double, Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(found.settings(), expected.0.settings(), "{architecture:?}, tied {tied}");
                for (spec, (a, b)) in values.specs().iter().zip(values.values().iter().zip(expected.1.values())) {
                    assert_eq!(a, b, "{architecture:?}: {}", spec.name);
                }
                assert_eq!(logits(&*found, &values), logits(&*expected.0, &expected.1));
            }
        }
    }
}

/// The values of a block by the formats' definitions, one at a time.
fn block(kind: u32, b: &[u8]) -> Vec<f32> {
    let half = |at: usize| {
        let bits = u16::from_le_bytes([b[at], b[at + 1]]);
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
        let size = if exponent == 0 {
            fraction / 1024.0 * 2f32.powi(-14)
        } else {
            (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15)
        };
        if bits >> 15 == 1 { -size } else { size }
    };
    let nibble = |start: usize, i: usize| f32::from(if i < 16 { b[start + i] & 15 } else { b[start + i - 16] >> 4 });
    match kind {
        2 => (0..32).map(|i| (nibble(2, i) - 8.0) * half(0)).collect(),
        3 => (0..32).map(|i| nibble(4, i) * half(0) + half(2)).collect(),
        8 => (0..32).map(|i| f32::from(b[2 + i] as i8) * half(0)).collect(),
        14 => (0..256)
            .map(|i| {
                let (part, quarter, at) = (i / 128, i % 128 / 32, i % 32);
                let low = b[part * 64 + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
                let high = b[128 + part * 32 + at] >> (2 * quarter) & 3;
                let scale = half(208) * f32::from(b[192 + i / 16] as i8);
                scale * (f32::from(low + 16 * high) - 32.0)
            })
            .collect(),
        _ => panic!("no test of type {kind}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes with finite scales: every format gives the values of its definition, to the last bit.
    #[test]
    fn blocks_stand_for_the_numbers_of_their_definition(
        (kind, size, entries, scales) in prop::sample::select(vec![
            (2u32, 18usize, 32i64, vec![0usize]), (3, 20, 32, vec![0, 2]), (8, 34, 32, vec![0]), (14, 210, 256, vec![208]),
        ]),
        seed in prop::collection::vec(any::<u8>(), 6 * 210),
    ) {
        let mut bytes = seed[..6 * size].to_vec();
        for b in bytes.chunks_mut(size) {
            // Below the exponent of infinity.
            for at in &scales {
                b[at + 1] &= 0b1011_1111;
            }
        }
        let expected: Vec<f32> = bytes.chunks(size).flat_map(|b| block(kind, b)).collect();
        let file = GgufFile { fields: vec![], tensors: vec![("t".into(), vec![3, 2 * entries], kind, bytes)] };
        let (_directory, path) = written(&file);
        let found = Gguf::open(&path).unwrap().tensor("t").unwrap();
        prop_assert_eq!(found, Tensor::from_slice(&expected).view([3, 2 * entries]));
    }
}

/// Every block format gives the numbers of gguf's own dequantize, to the last bit. The file, with the script that made it,
/// is in fixtures/gguf.
#[test]
fn blocks_stand_for_the_numbers_that_gguf_gives() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf/blocks.gguf");
    let file = Gguf::open(&file).expect("a file");
    let formats: Vec<&str> = file.names().filter(|name| !name.ends_with(".values")).collect();
    assert_eq!(formats.len(), 12);
    for name in formats {
        let found = file.tensor(name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found, file.tensor(&format!("{name}.values")).expect("values"), "{name}");
    }
}

#[test]
fn half_precision_is_widened_exactly() {
    let numbers = Tensor::from_slice(&[1.5f64, -0.1, 3e-6, 200.0]).view([2, 2]);
    for (kind, stored) in [(1, Kind::Half), (30, Kind::BFloat16), (28, Kind::Double)] {
        let t = numbers.to_kind(stored);
        let mut bytes = vec![0; 4 * stored.elt_size_in_bytes()];
        t.copy_data_u8(&mut bytes, 4);
        let (_directory, path) =
            written(&GgufFile { fields: vec![], tensors: vec![("t".into(), vec![2, 2], kind, bytes)] });
        let found = Gguf::open(&path).expect("a file").tensor("t").expect("a tensor");
        assert_eq!(found.to_kind(Kind::Double), t.to_kind(Kind::Double));
    }
}

/// A file with the tokenizer of a byte-level `tokenizer.json`.
fn with_tokenizer(file: &mut GgufFile, json: &Path, pre: &str) {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).expect("a file")).expect("JSON");
    let model = &json["model"];
    let mut tokens: Vec<(String, u64)> = model["vocab"]
        .as_object()
        .expect("a vocabulary")
        .iter()
        .map(|(t, id)| (t.clone(), id.as_u64().unwrap()))
        .collect();
    tokens.sort_by_key(|(_, id)| *id);
    let merge = |m: &serde_json::Value| match m.as_str() {
        Some(text) => text.to_owned(),
        None => format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()),
    };
    let merges = model["merges"].as_array().expect("merges").iter().map(merge).collect();
    let types = tokens.iter().map(|(token, _)| if token.starts_with("<|") { 3 } else { 1 }).collect();
    file.set("tokenizer.ggml.model", Some(Field::Text("gpt2".into())));
    file.set("tokenizer.ggml.pre", Some(Field::Text(pre.into())));
    file.set("tokenizer.ggml.tokens", Some(Field::Texts(tokens.into_iter().map(|(token, _)| token).collect())));
    file.set("tokenizer.ggml.merges", Some(Field::Texts(merges)));
    file.set("tokenizer.ggml.token_type", Some(Field::I32s(types)));
}

#[test]
fn the_tokenizer_of_a_file_is_that_of_the_tokenizer_json() {
    let Some(json) = shared("oracle/gpt2/tokenizer.json") else { return };
    let expected = PromptTokenizer::from_tokenizer_file(&json).expect("a tokenizer");
    let text = "it was terrible , great! 1234 naïve\n  soup <|endoftext|> it's";
    let mut file = GgufFile::default();
    for pre in ["gpt-2", "smollm"] {
        with_tokenizer(&mut file, &json, pre);
        let (directory, path) = written(&file);
        for place in [path.as_path(), directory.path()] {
            let found = PromptTokenizer::from_dir(place).expect("a tokenizer");
            let plain = |t: &PromptTokenizer, text: &str| t.encode(text).expect("tokens");
            if pre == "gpt-2" {
                assert_eq!(plain(&found, text), plain(&expected, text));
            }
            let words = text.replace("1234", "");
            assert_eq!(plain(&found, &words), plain(&expected, &words));
            assert!(found.beginning().expect("tokens").is_empty());
            assert_eq!(found.vocab_size(), expected.vocab_size());
        }
    }
    // Each digit separately, whatever the merges.
    let (_directory, path) = written(&file);
    let found = PromptTokenizer::from_dir(&path).expect("a tokenizer");
    let digits: Vec<i64> = "407".chars().filter_map(|d| found.token_to_id(&d.to_string())).collect();
    assert_eq!(found.encode("407").expect("tokens"), digits);

    file.set("tokenizer.ggml.add_bos_token", Some(Field::Flag(true)));
    file.set("tokenizer.ggml.bos_token_id", Some(Field::U32(0)));
    let (_directory, path) = written(&file);
    assert_eq!(PromptTokenizer::from_dir(&path).expect("a tokenizer").beginning().expect("tokens"), [0]);
}

/// A chat template in a file's metadata gives the same prompts as one beside a `tokenizer.json`.
#[test]
fn the_chat_template_of_a_file_is_used() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bases/llama3");
    let template = "{{ bos_token }}{% for m in messages %}{{ m['role'] }}:\n{{ m['content'] | trim }}{{ eos_token }}{% endfor %}\
                    {% if add_generation_prompt %}assistant:\n{% endif %}";
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::copy(base.join("tokenizer.json"), directory.path().join("tokenizer.json")).expect("a copy");
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template, "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
    });
    fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).expect("written");
    let mut file = GgufFile::default();
    with_tokenizer(&mut file, &base.join("tokenizer.json"), "llama-bpe");
    file.set("tokenizer.ggml.bos_token_id", Some(Field::U32(0)));
    file.set("tokenizer.ggml.eos_token_id", Some(Field::U32(1)));
    let prompt = |place: &Path| {
        let tokenizer = PromptTokenizer::from_dir(place).expect("a tokenizer");
        let task = TaskDefinition::new("own", " *sent_0*_Was_it_good?*reply*It_was*mask*", "bad,good").expect("a task");
        let task = task.with(&Overrides { chat: Some(true), ..Overrides::default() }).expect("a chat");
        let texts = vec!["the weather of the north".to_owned()];
        let split = |row| Split {
            examples: vec![Example { texts: texts.clone(), choices: Vec::new(), label: 0, row }],
            source: "rows.tsv".into(),
            digest: String::new(),
        };
        let splits = Splits { train: split(1), dev: split(2), test: split(3), notes: Vec::new() };
        let task = PromptedTask::read_at(Reading::LastToken, &task, &tokenizer, &splits)?;
        let names = task.train[0].input_ids.iter().map(|id| tokenizer.id_to_token(*id).expect("a token"));
        Ok::<_, Error>((task.train[0].input_ids.clone(), names.collect::<String>()))
    };
    let (_directory, path) = written(&file);
    let absent = prompt(&path).expect_err("no template").to_string();
    assert!(absent.contains("has no chat template"), "{absent}");
    file.set("tokenizer.chat_template", Some(Field::Text(template.into())));
    let (_directory, path) = written(&file);
    let (found, text) = prompt(&path).expect("a prompt");
    assert_eq!(found, prompt(directory.path()).expect("a prompt").0);
    let right = "<|begin|>user:ĊtheĠweatherĠofĠtheĠnorthĠWasĠitĠgood?<|end|>assistant:ĊItĠwas";
    assert_eq!(text, right);
}

/// SentencePiece pieces with scores, the pre-tokenizers of Llama 3 and Qwen2, and files that name none. Texts and ids, with the
/// script that made them, are in fixtures/gguf/tokenizers.
#[test]
fn tokens_are_those_of_the_original_tokenizers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf/tokenizers");
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(fixtures.join("ids.json")).expect("a file")).expect("JSON");
    let texts = json["texts"].as_array().expect("texts");
    let of = json["ids"].as_object().expect("ids");
    assert_eq!(of.len(), 6);
    for (name, ids) in of {
        let tokenizer = PromptTokenizer::from_dir(fixtures.join(format!("{name}.gguf"))).expect("a tokenizer");
        for (text, ids) in texts.iter().zip(ids.as_array().expect("a list")) {
            let expected: Vec<i64> = serde_json::from_value(ids.clone()).expect("numbers");
            let text = text.as_str().expect("a text");
            assert_eq!(tokenizer.encode(text).expect("tokens"), expected, "{name}: {text:?}");
        }
        let begins = tokenizer.beginning().expect("tokens");
        assert_eq!(begins.len(), usize::from(!name.starts_with("qwen2")), "{name}");
    }
}

/// A file is recognized by its first bytes, a directory by what it lacks.
#[test]
fn files_are_found_whatever_stands_beside_them() {
    let (model, parameters) = network(CausalArchitecture::Llama, true);
    let (directory, path) = written(&gguf(model.config(), &parameters));
    let is = |place: &Path, expected: Option<&Path>| assert_eq!(Gguf::find(place).expect("found").as_deref(), expected);
    fs::write(directory.path().join("config.json"), "{}").expect("a file");
    fs::write(directory.path().join("mmproj-model.gguf"), "").expect("a file");
    is(directory.path(), Some(&path));
    let blob = directory.path().join("sha256-0123");
    fs::copy(&path, &blob).expect("a copy");
    is(&blob, Some(&blob));
    assert!(lm::load(&blob, Kind::Float, Device::Cpu).is_ok());
    is(&directory.path().join("config.json"), None);
    fs::write(directory.path().join("model.safetensors"), "").expect("a file");
    is(directory.path(), None);

    let mut part = gguf(model.config(), &parameters);
    part.set("split.count", Some(Field::U32(3)));
    let (_directory, path) = written(&part);
    let refused = lm::load(&path, Kind::Float, Device::Cpu).err().expect("refused").to_string();
    assert!(refused.contains("`split.count` is 3") && refused.contains("--merge"), "{refused}");
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").expect("a file");
    let refused = lm::load(&path, Kind::Float, Device::Cpu).err().expect("refused").to_string();
    assert!(refused.contains("Git LFS"), "{refused}");
}

/// Anything that would change the file's function is refused, with the file and the field.
#[test]
fn unsupported_settings_are_refused_by_name() {
    let (model, parameters) = network(CausalArchitecture::Llama, true);
    let whole = gguf(model.config(), &parameters);
    let refused = |file: &GgufFile, message: &str| {
        let (_directory, path) = written(file);
        let found = lm::load(&path, Kind::Float, Device::Cpu).err().expect(message).to_string();
        assert_eq!(found, format!("{}: {message}", path.display()));
    };
    let text = |t: &str| Some(Field::Text(t.into()));
    for (field, value, message) in [
        (
            "general.architecture",
            text("mamba"),
            "is `mamba`, which is not supported; supported are: llama, qwen2, qwen3, gemma2, gemma3",
        ),
        ("llama.attention.sliding_window", Some(Field::U32(512)), "is 512, which is not supported"),
        ("llama.rope.scaling.type", text("yarn"), "is `yarn`, which is not supported"),
        ("llama.expert_count", Some(Field::U32(8)), "is 8, which is not supported"),
        (
            "llama.rope.dimension_count",
            Some(Field::U32(2)),
            "is 2, but heads have 4 entries, which must all be rotated",
        ),
        ("llama.embedding_length", None, "is missing (expected a positive integer)"),
        ("llama.embedding_length", text("16"), "must be a positive integer, found `16`"),
        (
            "llama.attention.head_count_kv",
            Some(Field::U32(3)),
            "is 4, not a multiple of `llama.attention.head_count_kv` 3",
        ),
        ("llama.block_count", Some(Field::U32(90_000)), "must be at most 1000, found 90000"),
        ("llama.attention.layer_norm_rms_epsilon", None, "is missing (expected a positive number)"),
    ] {
        let named = if message.starts_with("is 4,") { "llama.attention.head_count" } else { field };
        refused(whole.clone().set(field, value), &format!("the field `{named}` {message}"));
    }
    let mut quantized = whole.clone();
    quantized.tensors[1].2 = 16;
    let name = &quantized.tensors[1].0;
    let supported = "supported are F64, F32, F16, BF16, Q8_0, Q2_K to Q6_K, Q5_1, Q5_0, Q4_1, Q4_0, IQ4_XS and IQ4_NL";
    refused(&quantized, &format!("tensor `{name}` is stored as IQ2_XXS, which is not supported; {supported}"));
    let mut scaled = whole.clone();
    scaled.tensors.push(("rope_freqs.weight".into(), vec![2], 0, vec![0; 8]));
    refused(&scaled, "tensor `rope_freqs.weight` must be 2 positive numbers, one for each pair of entries");
    let mut more = whole.clone();
    more.tensors.push(("blk.0.ffn_gate_inp.weight".into(), vec![2], 0, vec![0; 8]));
    refused(
        &more,
        "tensor `blk.0.ffn_gate_inp.weight` is part of a layer, but this architecture has no such parameter",
    );

    let (directory, path) = written(&whole);
    fs::copy(&path, directory.path().join("other.gguf")).expect("a copy");
    let several = lm::load(directory.path(), Kind::Float, Device::Cpu).err().expect("refused").to_string();
    assert!(several.ends_with("several GGUF files (other.gguf, tiny.gguf); give the path of the one to use"));
    let no_tokenizer = PromptTokenizer::from_dir(&path).expect_err("refused").to_string();
    assert!(no_tokenizer.ends_with("the field `tokenizer.ggml.model` is missing (expected text)"), "{no_tokenizer}");
}

#[test]
fn damaged_files_are_an_answer_and_never_a_panic() {
    let (model, parameters) = network(CausalArchitecture::Llama, true);
    let whole = gguf(model.config(), &parameters).bytes();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("tiny.gguf");
    let config = Config { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Config::default() };
    // Metadata and the list of tensors are at the beginning.
    let place = prop_oneof![3 => 0..3000usize, 1 => 0..whole.len()];
    let damage = (prop::collection::vec((place, any::<u8>()), 0..4), prop::option::weighted(0.3, 0..whole.len()));
    proptest::test_runner::TestRunner::new(config)
        .run(&damage, |(bytes, cut)| {
            let mut damaged = whole.clone();
            for (at, byte) in &bytes {
                damaged[*at] = *byte;
            }
            damaged.truncate(cut.unwrap_or(whole.len()));
            fs::write(&path, &damaged).expect("a file");
            let loaded = lm::load(&path, Kind::Float, Device::Cpu).is_ok();
            prop_assert!(!loaded || cut.is_none(), "a file cut at {cut:?} was loaded");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
