//! The formats: how undamaged files are made, and their readers. A new format is one entry of [`formats!`].

use std::fs;
use std::path::{Path, PathBuf};

use kernelview::error::{Error, Result};
use kernelview::gate::Baseline;
use kernelview::gguf::Gguf;
use kernelview::kernel::{KernelFile, PublishedKernel};
use kernelview::lm::{
    self, Architecture, CausalArchitecture, CausalLm, Checkpoint, MaskedLm, Modules, PeftAdapter, random, save_adapter,
};
use kernelview::pretrain::Recipe;
use kernelview::subspace::{Init, Lora, Target};
use kernelview::task::{DataFormat, PromptTokenizer, TaskDefinition, Template, builtin, parse_examples};
use tch::{Device, Kind, Tensor};

use super::mutate::Form;
use super::run;
use crate::common::bin::{Storages, archive, state_dict};
use crate::common::causal::{self, Field};
use crate::common::fixture::tiny_checkpoint;
use crate::common::read_tensors;

/// The result of a reader.
#[derive(Debug)]
pub enum Outcome {
    /// It read the file.
    Read,
    /// It refused it.
    Refused(Error),
}

/// One format.
pub struct Format {
    /// Its name, also that of its directory and of its cases' seeds.
    pub name: &'static str,
    /// How it is damaged.
    pub form: Form,
    /// Whether errors must name the file: all but those about a string from the command line.
    pub names_file: bool,
    /// Writes the other files that are needed to a directory, and returns the file's path.
    pub prepare: fn(&Path) -> PathBuf,
    /// Undamaged files.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads the file; its bytes are also passed.
    pub read: fn(&Path, &[u8]) -> Outcome,
}

fn outcome<T>(result: Result<T>) -> Outcome {
    match result {
        Ok(_) => Outcome::Read,
        Err(error) => Outcome::Refused(error),
    }
}

/// A table of formats, with one test each.
macro_rules! formats {
    ($($test:ident: $form:ident, $prepare:expr, $seeds:expr, $read:expr;)*) => {$(
        #[test]
        fn $test() {
            run(&Format {
                name: stringify!($test),
                form: Form::$form,
                names_file: stringify!($test) != "templates",
                prepare: $prepare,
                seeds: $seeds,
                read: $read,
            });
        }
    )*};
}

formats! {
    safetensors: Headed, |d| d.join("model.safetensors"), || vec![weights()],
        |file, _| outcome(Checkpoint::read(file));
    kernels: Headed, |d| d.join("K.safetensors"), kernel_files, |file, _| outcome(KernelFile::read(file).map(|k| k.to_gram()));
    pytorch: Zipped, |d| d.join("pytorch_model.bin"), pytorch_files,
        |file, _| outcome(Checkpoint::open(file.parent().expect("a directory")));
    torch_kernels: Zipped, |d| d.join("K.pt"), published, |file, _| outcome(PublishedKernel::read(file));
    gguf: Binary, |d| d.join("m.gguf"), gguf_files, |file, _| outcome(read_gguf(file));
    config: Text, model_beside, || vec![beside("config.json")], |file, _| load(file);
    shared_config: Text, shared_beside, || vec![shared_settings()], |file, _| load(file);
    weights_index: Text, model_beside_index, || vec![br#"{"weight_map": {"bert.embeddings.LayerNorm.bias": "s.safetensors", "bert.embeddings.LayerNorm.weight": "s.safetensors"}}"#.to_vec()],
        |file, _| outcome(Checkpoint::open(file.parent().expect("a directory")));
    tokenizer: Text, |d| d.join("tokenizer.json"), tokenizers, |file, _| tokenize(file);
    vocabulary: Text, |d| d.join("vocab.txt"), || vec![b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##c\ncat\n".to_vec()],
        |file, _| tokenize(file);
    sentence_piece: Binary, |d| tokenizer_beside(d, "LlamaTokenizer", "tokenizer.model"),
        || vec![fixture("tokenizers/bases/llama/tokenizer.model")], |file, _| tokenize(file);
    merges: Text, |d| {
            fs::write(d.join("vocab.json"), fixture("tokenizers/bases/gpt2/vocab.json")).expect("written");
            tokenizer_beside(d, "GPT2Tokenizer", "merges.txt")
        }, || vec![fixture("tokenizers/bases/gpt2/merges.txt")], |file, _| tokenize(file);
    tokenizer_settings: Text, |d| {
            fs::write(d.join("tokenizer.json"), fixture("tokenizers/bases/gpt2/tokenizer.json")).expect("written");
            d.join("tokenizer_config.json")
        }, || vec![TOKENIZER_SETTINGS.as_bytes().to_vec()], |file, _| tokenize(file);
    json_lines: Text, |d| d.join("mine.jsonl"), || vec![b"{\"text\": \"one\", \"text2\": \"x\", \"label\": \"a\"}\n".to_vec()],
        |file, bytes| outcome(parse_examples(file, bytes, &own_task()));
    tsv: Text, |d| d.join("train.tsv"), || vec![fixture("tasks/QNLI/2-13/train.tsv")],
        |file, bytes| outcome(parse_examples(file, bytes, &builtin("QNLI").expect("a task")));
    csv: Text, |d| d.join("train.csv"), || vec![fixture("tasks/ag_news/2-13/train.csv"), own_news()],
        |file, bytes| outcome(parse_examples(file, bytes, &builtin("ag_news").expect("a task")));
    own_rows: Text, |d| d.join("mine.csv"), || vec![b"text,text2,label\n\"one, two\",x,a\nthree,y,b\n\"q \"\"r\"\"\",z,a\n".to_vec()],
        |file, bytes| outcome(parse_examples(file, bytes, &own_task()));
    task_toml: Text, |d| d.join("task.toml"), || vec![TASK_TOML.as_bytes().to_vec()], |file, _| outcome(TaskDefinition::from_toml(file));
    templates: Text, |d| d.join("template"), || TEMPLATES.iter().map(|t| t.as_bytes().to_vec()).collect(), |_, bytes| template(bytes);
    adapter_settings: Text, adapter_beside, || vec![adapter("adapter_config.json")], |file, _| outcome(read_adapter(file));
    adapter_weights: Headed, |d| { adapter_beside(d); d.join("adapter_model.safetensors") },
        || vec![adapter("adapter_model.safetensors")], |file, _| outcome(read_adapter(file));
    baselines: Text, |d| d.join("baseline.json"), kept_reports, |file, _| outcome(Baseline::read(file));
    recipes: Text, |d| d.join("recipe.toml"), || vec![fixture("family/recipe.toml")], |file, _| outcome(Recipe::read(file));
}

const TOKENIZER_SETTINGS: &str = r#"{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true, "bos_token": "<|endoftext|>",
"added_tokens_decoder": {"900": {"content": "[E1]", "lstrip": true, "normalized": false, "special": true}}, "chat_template": "{{ messages }}"}"#;

/// A directory whose tokenizer settings name a class.
fn tokenizer_beside(directory: &Path, class: &str, file: &str) -> PathBuf {
    let settings = format!("{{\"tokenizer_class\": \"{class}\"}}");
    fs::write(directory.join("tokenizer_config.json"), settings).expect("written");
    directory.join(file)
}

const TASK_TOML: &str = "name = \"remarks\"\ntemplate = \"*cls**sent_0*_It_was*mask*.*sep+*\"\nlabel_words = \
                         [\"negative=terrible\", \"positive=great\"]\nmax_length = 128\nfirst_sentence_limit = 20\n";

const TEMPLATES: [&str; 5] = [
    "*cls**sent_0*_It_was*mask*.*sep+*",
    "*cls**sent-_0*?*mask*,*+sentl_1**sep+*",
    "*cls**mask*:*+sent_0**sep+*",
    "*cls**sent_0**mask**sent_1**sep+*",
    "*cls**sentl_0**sep**label_1**+sentu_1**mask**sep+*",
];

/// A file of the sources.
fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).expect("a fixture")
}

fn own_news() -> Vec<u8> {
    b"1,\"Title, one\",\"A \"\"quoted\"\" text\"\n4,Two,Second\n3,,\"line\none\"\n".to_vec()
}

fn own_task() -> TaskDefinition {
    let task = TaskDefinition::new("own", "*cls**sent_0**mask**sent_1**sep+*", "a=no,b=yes").expect("a task");
    assert_eq!(task.format, DataFormat::Named);
    task
}

/// A small model's file.
fn beside(name: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tiny_checkpoint(directory.path(), Architecture::Bert, 3);
    fs::read(directory.path().join(name)).expect("a file")
}

fn weights() -> Vec<u8> {
    beside("model.safetensors")
}

fn model_beside(directory: &Path) -> PathBuf {
    tiny_checkpoint(directory, Architecture::Bert, 3);
    directory.join("config.json")
}

/// A model whose settings determine the sharing of layers' parameters and the width of embeddings.
fn shared_beside(directory: &Path) -> PathBuf {
    tiny_checkpoint(directory, Architecture::Albert, 3);
    directory.join("config.json")
}

fn shared_settings() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::read(shared_beside(directory.path())).expect("a file")
}

fn network() -> MaskedLm {
    MaskedLm::new(random::tiny(Architecture::Bert, 40))
}

/// An adapter of rank 2 on two weights of a small model.
fn adapter_beside(directory: &Path) -> PathBuf {
    let model = network();
    let weights = Modules::of(model.specs()).choose(&["query".into(), "value".into()]).expect("there are some");
    let target = |weight| Target { weight, rank: 2, scaling: 1.0 };
    let lora = Lora::new(model.specs(), &weights.into_iter().map(target).collect::<Vec<_>>()).expect("linear maps");
    let own = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
    let extended = lora.parameters(&own, Init::Gaussian, 5);
    save_adapter(directory, "bert", "model", &lora, &extended).expect("an adapter");
    directory.join("adapter_config.json")
}

fn adapter(name: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    adapter_beside(directory.path());
    fs::read(directory.path().join(name)).expect("a file")
}

fn read_adapter(file: &Path) -> Result<PeftAdapter> {
    PeftAdapter::load(file.parent().expect("a directory"), network().specs())
}

/// A baseline of one claim's report, and the report itself.
fn kept_reports() -> Vec<Vec<u8>> {
    let report = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/fuzz/claims.json");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let baseline = directory.path().join("baseline.json");
    Baseline::read(&report).and_then(|found| found.write(&baseline)).expect("a baseline");
    [report, baseline].map(|path| fs::read(path).expect("a file")).to_vec()
}

fn model_beside_index(directory: &Path) -> PathBuf {
    fs::write(directory.join("s.safetensors"), weights()).expect("a file");
    directory.join("model.safetensors.index.json")
}

fn kernel_files() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("K.safetensors");
    let numbers = Tensor::arange(8, (Kind::Double, Device::Cpu));
    let file = |names: &[&str]| {
        let mut tensors: Vec<(String, Tensor)> =
            names.iter().map(|name| (format!("kernel.{name}"), numbers.view([2, 2, 1, 2]))).collect();
        for (name, shape) in [("logits", [2, 2]), ("logits_right", [1, 2])] {
            tensors.push((name.into(), numbers.narrow(0, 0, shape.iter().product()).view(shape)));
        }
        tensors.push(("labels".into(), Tensor::from_slice(&[0i64, 1])));
        tensors.push(("labels_right".into(), Tensor::from_slice(&[1i64])));
        let shares = "[[\"w\", 1.0, null]]".to_owned();
        KernelFile::with(tensors, [("shares".to_owned(), shares)].into()).write(&path).expect("a file");
        fs::read(&path).expect("a file")
    };
    vec![file(&["sgd"]), file(&["sgd", "asymmetric", "asymmetric_reversed", "signgd"])]
}

fn pytorch_files() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tiny_checkpoint(directory.path(), Architecture::Bert, 3);
    let mut tensors = read_tensors(&directory.path().join("model.safetensors"));
    tensors.retain(|name, _| !name.contains("layer.1") && !name.contains("embeddings"));
    let make = |storages| {
        let (program, data) = state_dict(&tensors, storages);
        archive(&program, &data)
    };
    vec![make(Storages::Own), make(Storages::Transposed), make(Storages::Shared)]
}

fn published() -> Vec<Vec<u8>> {
    ["sgd", "asymmetric", "classes"]
        .iter()
        .map(|name| repacked(&fixture(&format!("torch-kernels/{name}.pt"))))
        .collect()
}

/// PyTorch names the archive's root after the file; here it gets the root name of the tests' own archives.
fn repacked(bytes: &[u8]) -> Vec<u8> {
    use std::io::{Cursor, Read as _};
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
    let names: Vec<String> = zip.file_names().map(str::to_owned).collect();
    let mut program = Vec::new();
    let mut storages = std::collections::BTreeMap::new();
    for name in names {
        let mut content = Vec::new();
        zip.by_name(&name).expect("an entry").read_to_end(&mut content).expect("memory");
        match name.split_once('/').map_or("", |(_, rest)| rest) {
            "data.pkl" => program = content,
            rest => drop(rest.strip_prefix("data/").map(|key| storages.insert(key.to_owned(), content))),
        }
    }
    archive(&program, &storages)
}

fn gguf_files() -> Vec<Vec<u8>> {
    [CausalArchitecture::Llama, CausalArchitecture::Qwen2]
        .map(|architecture| {
            let model = CausalLm::new(random::tiny_causal(architecture, 19));
            let parameters = random::parameters(&model, 3, 1.5, Kind::Float, Device::Cpu);
            let mut file = causal::gguf(model.config(), &parameters);
            file.set("general.alignment", Some(Field::U32(32)));
            file.bytes()
        })
        .to_vec()
}

/// Reads the model, and every tensor, whether the model uses it or not.
fn read_gguf(file: &Path) -> Result<()> {
    let gguf = Gguf::open(file)?;
    for name in gguf.names() {
        drop(gguf.tensor(name)?);
    }
    lm::load(file, Kind::Float, Device::Cpu).map(drop)
}

fn load(file: &Path) -> Outcome {
    outcome(lm::load(file.parent().expect("a directory"), Kind::Float, Device::Cpu))
}

fn tokenizers() -> Vec<Vec<u8>> {
    // The vocabulary has only words, so that damage hits what surrounds it.
    let mut whole: serde_json::Value = serde_json::from_slice(&beside("tokenizer.json")).expect("JSON");
    let vocabulary = whole["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let kept: Vec<String> = vocabulary.keys().take(40).cloned().collect();
    vocabulary.retain(|word, _| kept.contains(word));
    let pairs = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3}, "merges": [["a", "b"]]},
    });
    vec![whole.to_string().into_bytes(), pairs.to_string().into_bytes()]
}

fn tokenize(file: &Path) -> Outcome {
    outcome(
        PromptTokenizer::from_dir(file.parent().expect("a directory"))
            .and_then(|t| t.encode("a cat, [MASK] ab\u{e9}").map(drop)),
    )
}

fn template(bytes: &[u8]) -> Outcome {
    outcome(Template::parse(&String::from_utf8_lossy(bytes)).map(|template| template.to_string()))
}
