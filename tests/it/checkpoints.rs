//! Every way of storing the same model must give the same model, to the last bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::bin::{Storages, write_state_dict};
use crate::common::fixture::tiny_checkpoint;
use crate::common::{Golden, golden_prompts, integers, read_tensors, relative_error, shared};
use kernelview::jacobian::{Examples, Parameters, Role, outputs};
use kernelview::lm::{Architecture, Checkpoint, MaskedLm, OutputMode, PromptExample, PromptExamples};
use kernelview::task::PromptTokenizer;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

type Tensors = BTreeMap<String, Tensor>;

/// A checkpoint to be stored in other ways: its configuration and its tensors.
struct Source {
    name: String,
    config: Value,
    tensors: Tensors,
}

impl Source {
    fn read(name: &str, directory: &Path) -> Self {
        let config = fs::read(directory.join("config.json")).expect("config.json");
        Self {
            name: name.to_owned(),
            config: serde_json::from_slice(&config).expect("JSON"),
            tensors: read_tensors(&directory.join("model.safetensors")),
        }
    }

    /// The prefix of its tensors: `roberta.`, `bert.` and so on.
    fn prefix(&self) -> String {
        match self.config["model_type"].as_str().expect("model_type") {
            "xlm-roberta" | "camembert" => "roberta.".into(),
            other => format!("{other}."),
        }
    }

    /// The decoder's bias and its weight.
    fn decoder(&self) -> (&'static str, &'static str) {
        match self.prefix().as_str() {
            "bert." => ("cls.predictions.bias", "cls.predictions.decoder.weight"),
            "roberta." => ("lm_head.bias", "lm_head.decoder.weight"),
            "distilbert." => ("vocab_projector.bias", "vocab_projector.weight"),
            "electra." => ("generator_lm_head.bias", "generator_lm_head.weight"),
            "albert." => ("predictions.bias", "predictions.decoder.weight"),
            other => panic!("prefix {other}"),
        }
    }

    fn bias_name(&self) -> &'static str {
        self.decoder().0
    }

    fn decoder_name(&self) -> &'static str {
        self.decoder().1
    }

    fn embeddings(&self) -> &Tensor {
        &self.tensors[&format!("{}embeddings.word_embeddings.weight", self.prefix())]
    }

    fn copy(&self) -> Tensors {
        self.tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect()
    }

    fn renamed(&self, rename: impl Fn(&str) -> String) -> Tensors {
        self.tensors.iter().map(|(name, t)| (rename(name), t.shallow_clone())).collect()
    }

    /// Writes the configuration, stores the weights by `write`, and loads.
    fn stored(&self, kind: Kind, write: impl FnOnce(&Path)) -> Loaded {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("config.json"), self.config.to_string()).expect("config.json");
        write(directory.path());
        load(directory.path(), kind)
    }
}

/// The tiny random checkpoints, and the golden ones if they exist.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for architecture in Architecture::ALL {
        let name = architecture.name();
        let directory = tiny(architecture);
        found.push(Source::read(&format!("tiny {name}"), directory.path()));
        if ["bert", "roberta"].contains(&name)
            && let Some(golden) = shared(&format!("oracle/{name}"))
        {
            found.push(Source::read(&format!("golden {name}"), &golden));
        }
    }
    found
}

fn tiny(architecture: Architecture) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tiny_checkpoint(directory.path(), architecture, 5);
    directory
}

fn write_safetensors(path: &Path, tensors: &Tensors) {
    let named: Vec<(&String, &Tensor)> = tensors.iter().collect();
    Tensor::write_safetensors(&named, path).expect("a safetensors file");
}

struct Loaded {
    parameters: Parameters,
    /// Logits of prompts of several lengths in one padded batch.
    logits: Tensor,
}

fn load(directory: &Path, kind: Kind) -> Loaded {
    let (model, parameters) = MaskedLm::load(directory, kind, Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
    let prompt = |ids: &[i64], mask_position| PromptExample {
        input_ids: ids.to_vec(),
        segment_ids: vec![0; ids.len()],
        mask_position,
    };
    let prompts = vec![
        prompt(&[2, 17, 8, 33, 4, 51, 3], 4),
        prompt(&[4, 9], 0),
        prompt(&[2, 40, 41, 42, 43, 44, 45, 46, 47, 48, 4, 3], 10),
    ];
    let mode = OutputMode::Logits;
    let examples =
        PromptExamples::new(&model, prompts, &[6, 30, 77], mode, Device::Cpu).expect("ids of any vocabulary");
    Loaded { logits: outputs(&parameters, &examples, 3), parameters }
}

/// Fails unless two loads have the same parameters and the same logits, bit by bit: where and under which name a number is
/// stored must not change it.
fn assert_same(actual: &Loaded, expected: &Loaded, what: &str) {
    assert_eq!(actual.parameters.len(), expected.parameters.len(), "{what}");
    for (i, spec) in expected.parameters.specs().iter().enumerate() {
        assert_eq!(actual.parameters.specs()[i].name, spec.name, "{what}");
        assert_eq!(actual.parameters.values()[i], expected.parameters.values()[i], "{what}: {}", spec.name);
    }
    assert_eq!(actual.logits, expected.logits, "{what}: logits");
}

/// Fails for: a missing rule of `names::aliases`, an error for an unused tensor of another head.
#[test]
fn names_with_and_without_prefix_old_norm_names_and_other_heads_tensors_change_nothing() {
    for source in sources() {
        let prefix = source.prefix();
        let expected =
            source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &source.tensors));
        let strip = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
        let old = |name: &str| {
            if !name.to_lowercase().replace('_', "").contains("layernorm.") {
                return name.to_owned();
            }
            name.replace(".weight", ".gamma").replace(".bias", ".beta")
        };
        assert!(source.tensors.keys().any(|name| strip(name) != *name) && source.tensors.keys().any(|n| old(n) != *n));
        let at_decoder =
            |name: &str| name.replace(source.bias_name(), &source.decoder_name().replace("weight", "bias"));

        let embeddings = source.embeddings();
        let width = embeddings.size()[1];
        let mut extra = source.copy();
        extra.insert(
            format!("{prefix}embeddings.position_ids"),
            Tensor::arange(64, (Kind::Int64, Device::Cpu)).view([1, 64]),
        );
        extra.insert(format!("{prefix}pooler.dense.weight"), Tensor::ones([width, width], (Kind::Float, Device::Cpu)));
        extra.insert(format!("{prefix}pooler.dense.bias"), Tensor::ones([width], (Kind::Float, Device::Cpu)));
        extra.insert("cls.seq_relationship.weight".into(), Tensor::ones([2, width], (Kind::Float, Device::Cpu)));
        extra.insert("cls.seq_relationship.bias".into(), Tensor::ones([2], (Kind::Float, Device::Cpu)));
        extra.insert(source.decoder_name().into(), embeddings.copy());
        extra.insert(source.decoder_name().replace("weight", "bias"), source.tensors[source.bias_name()].copy());

        for (what, tensors) in [
            ("prefix kept", source.copy()),
            ("prefix stripped", source.renamed(strip)),
            ("gamma and beta", source.renamed(old)),
            ("gamma and beta, prefix stripped", source.renamed(|name| strip(&old(name)))),
            ("bias at the decoder", source.renamed(at_decoder)),
            ("pooler, position_ids, decoder and next-sentence head", extra),
        ] {
            let actual = source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &tensors));
            assert_same(&actual, &expected, &format!("{}, {what}", source.name));
        }
    }
}

/// Fails for: a shard that is not read, or a tensor read from another shard than the index's.
#[test]
fn shards_give_the_model_of_the_single_file() {
    for source in sources() {
        let expected =
            source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &source.tensors));
        let actual = source.stored(Kind::Double, |directory| {
            let mut map = serde_json::Map::new();
            for part in 0..3 {
                let file = format!("model-{:05}-of-00003.safetensors", part + 1);
                let some: Tensors =
                    source.copy().into_iter().enumerate().filter(|(i, _)| i % 3 == part).map(|(_, t)| t).collect();
                map.extend(some.keys().map(|name| (name.clone(), json!(file))));
                write_safetensors(&directory.join(file), &some);
            }
            let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
            fs::write(directory.join("model.safetensors.index.json"), index.to_string()).expect("index");
        });
        assert_same(&actual, &expected, &source.name);
    }
}

/// Fails for: ignored strides or offsets of `pytorch_model.bin`, which would transpose or shift matrices.
#[test]
fn pytorch_model_bin_gives_the_model_of_the_safetensors_file() {
    for source in sources() {
        let expected =
            source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &source.tensors));
        for storages in [Storages::Own, Storages::Transposed, Storages::Shared] {
            let actual = source
                .stored(Kind::Double, |d| write_state_dict(&d.join("pytorch_model.bin"), &source.tensors, storages));
            assert_same(&actual, &expected, &format!("{}, {storages:?}", source.name));
        }
    }
}

/// Fails for: another order of preference. Here the .bin is not even an archive.
#[test]
fn safetensors_are_preferred_to_pytorch_model_bin() {
    let directory = tiny(Architecture::Bert);
    fs::write(directory.path().join("pytorch_model.bin"), "not an archive").expect("a file");
    let checkpoint = Checkpoint::open(directory.path()).expect("safetensors");
    assert_eq!(checkpoint.files, [directory.path().join("model.safetensors")]);
}

/// bfloat16 and half tensors are widened exactly, double ones loaded unchanged, from both kinds of file. Fails for: an element
/// type taken for another, double values that pass through single precision.
#[test]
fn stored_precision_is_kept() {
    for source in sources() {
        for kind in [Kind::BFloat16, Kind::Half, Kind::Double] {
            let narrow: Tensors = source
                .tensors
                .iter()
                // A third in double precision has bits that f32 would lose.
                .map(|(name, t)| (name.clone(), (t.to_kind(Kind::Double) / 3.0).to_kind(kind)))
                .collect();
            let wide: Tensors = narrow.iter().map(|(name, t)| (name.clone(), t.to_kind(Kind::Double))).collect();
            let expected = source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &wide));
            let actual = source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &narrow));
            assert_same(&actual, &expected, &format!("{}, {kind:?} safetensors", source.name));
            let bin = |d: &Path| write_state_dict(&d.join("pytorch_model.bin"), &narrow, Storages::Shared);
            assert_same(&source.stored(Kind::Double, bin), &expected, &format!("{}, {kind:?} bin", source.name));
            let embeddings = &narrow[&format!("{}embeddings.word_embeddings.weight", source.prefix())];
            assert_eq!(expected.parameters.values()[0], embeddings.to_kind(Kind::Double), "{}", source.name);
        }
    }
}

/// Fails for: an ignored `tie_word_embeddings`, a decoder under another name.
#[test]
fn an_untied_decoder_is_a_parameter_of_its_own() {
    for mut source in sources() {
        let tied = source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &source.tensors));
        source.config["tie_word_embeddings"] = json!(false);
        let with = |decoder: &Tensor| {
            let mut tensors = source.copy();
            tensors.insert(source.decoder_name().into(), decoder.copy());
            source.stored(Kind::Double, |d| write_safetensors(&d.join("model.safetensors"), &tensors))
        };
        let copied = with(source.embeddings());
        assert_eq!(copied.logits, tied.logits, "{}: a decoder equal to the embeddings", source.name);
        let last = copied.parameters.specs().last().expect("parameters");
        assert_eq!((last.name.as_str(), last.role), (source.decoder_name(), Role::Head), "{}", source.name);
        assert_eq!(copied.parameters.len(), tied.parameters.len() + 1);

        // A doubled decoder doubles every logit except for its bias. 1e-14: one subtraction of numbers of order 1.
        let bias = source.tensors[source.bias_name()]
            .to_kind(Kind::Double)
            .index_select(0, &Tensor::from_slice(&[6i64, 30, 77]));
        let doubled = with(&(source.embeddings() * 2.0)).logits - &bias;
        let error = relative_error(&doubled, &((&tied.logits - &bias) * 2.0));
        assert!(error <= 1e-14, "{}: {error:.2e}", source.name);
    }
}

/// Single precision: about 30 layers of rounding at 6e-8, relative to the largest logit. Fails for: any part of the network in
/// half precision, single precision in place of double.
#[test]
fn single_and_double_precision_agree() {
    for source in sources() {
        let write = |d: &Path| write_safetensors(&d.join("model.safetensors"), &source.tensors);
        let (single, double) = (source.stored(Kind::Float, write), source.stored(Kind::Double, write));
        assert_eq!((single.parameters.kind(), double.parameters.kind()), (Kind::Float, Kind::Double));
        let error = relative_error(&single.logits, &double.logits);
        assert!(error <= 1e-5, "{}: {error:.2e}", source.name);
        assert!(error > 1e-10, "{}: {error:.2e} is too good for single precision", source.name);
    }
}

/// The golden logits from a rewritten file: connects the equalities above with another program's values (1e-12: about 30 layers
/// of rounding at 1e-16).
#[test]
fn golden_logits_come_out_of_a_transposed_bin_without_prefixes() {
    for name in ["bert", "roberta"] {
        let Some(golden) = Golden::load(name, Kind::Double) else { return };
        let source = Source::read(name, &shared(&format!("oracle/{name}")).expect("it was loaded"));
        let prefix = source.prefix();
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("config.json"), source.config.to_string()).expect("config.json");
        let bare = source.renamed(|n| n.strip_prefix(&prefix).unwrap_or(n).to_owned());
        write_state_dict(&directory.path().join("pytorch_model.bin"), &bare, Storages::Transposed);
        let (model, parameters) = MaskedLm::load(directory.path(), Kind::Double, Device::Cpu).expect("a checkpoint");
        let labels = integers(&golden.values["label_ids"]);
        let prompts = golden_prompts(&golden.values);
        let examples =
            PromptExamples::new(&model, prompts, &labels, OutputMode::Logits, Device::Cpu).expect("golden prompts");
        let error = relative_error(&outputs(&parameters, &examples, 4), &golden.values["logits"]);
        assert!(error <= 1e-12, "{name}: {error:.2e}");
    }
}

/// A model in the user's cache; `None`, after printing that the test is skipped, if it is absent.
fn cached(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = variable("KERNELVIEW_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|c| c.join("kernelview")))
        .or_else(|| variable("HOME").map(|h| h.join(".cache/kernelview")))?;
    let path = cache.join("models").join(name);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there (cargo xtask model {name})", path.display());
    None
}

/// Logits of some words at the mask of one prompt of a real model.
fn masked_logits(directory: &Path, before: &str, after: &str, words: &[&str]) -> (i64, Vec<f64>) {
    let tokenizer = PromptTokenizer::from_dir(directory).expect("a tokenizer");
    let (model, parameters) = MaskedLm::load(directory, Kind::Float, Device::Cpu).expect("a checkpoint");
    let id = |token: &str| tokenizer.token_to_id(token).unwrap_or_else(|| panic!("no token {token}"));
    let mut ids = vec![id("[CLS]")];
    ids.extend(tokenizer.encode(before).expect("tokens"));
    let mask_position = ids.len();
    ids.push(id("[MASK]"));
    ids.extend(tokenizer.encode(after).expect("tokens"));
    ids.push(id("[SEP]"));
    let example = PromptExample { segment_ids: vec![0; ids.len()], input_ids: ids, mask_position };
    let labels: Vec<i64> = words.iter().map(|w| id(w)).collect();
    let examples =
        PromptExamples::new(&model, vec![example], &labels, OutputMode::Logits, Device::Cpu).expect("a prompt");
    assert_eq!(examples.outputs(), words.len());
    let logits = outputs(&parameters, &examples, 1).to_kind(Kind::Double).view(-1);
    (parameters.numel(), Vec::try_from(logits).expect("numbers"))
}

/// A `pytorch_model.bin` written by PyTorch, and a tokenizer that is only a `vocab.txt`. Fails for: an instruction that the
/// pickle reader does not know, residues lower-cased into unknown tokens.
#[test]
fn antiberty_loads_from_its_own_bin_and_reads_residues() {
    let Some(directory) = cached("antiberty") else { return };
    let tokenizer = PromptTokenizer::from_dir(&directory).expect("a tokenizer");
    let tokens: Vec<_> =
        tokenizer.encode("E V Q L").expect("tokens").into_iter().map(|id| tokenizer.id_to_token(id)).collect();
    assert_eq!(tokens, ["E", "V", "Q", "L"].map(|t| Some(t.to_owned())));

    let residues: Vec<&str> = "A C D E F G H I K L M N P Q R S T V W Y".split(' ').collect();
    let (parameters, logits) =
        masked_logits(&directory, "E V Q L V E S G G G L V Q P G G S L R L", "C A A S G F T F", &residues);
    assert!((25_500_000..27_000_000).contains(&parameters), "{parameters} parameters");
    assert!(logits.iter().all(|x| x.is_finite()), "{logits:?}");
    // Framework 1 of human heavy chains: L R L S C A A S. A wrongly loaded model would not predict it.
    let best = (0..20).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("twenty");
    assert_eq!(residues[best], "S", "{logits:?}");
}

/// Fails for: tensors of the English model in wrong places; it would not prefer the word that fits.
#[test]
fn bert_tiny_loads_and_prefers_the_word_that_fits() {
    let Some(directory) = cached("bert-tiny-splade") else { return };
    let (parameters, logits) = masked_logits(&directory, "the capital of france is", ".", &["paris", "banana", "the"]);
    assert!((4_300_000..4_500_000).contains(&parameters), "{parameters} parameters");
    assert!(logits.iter().all(|x| x.is_finite()), "{logits:?}");
    assert!(logits[0] > logits[1] && logits[0] > logits[2], "{logits:?}");
}
