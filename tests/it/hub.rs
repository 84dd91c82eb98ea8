//! Models of the Hugging Face hub (feature `hub`): from caches made by hand, from a hub on the loopback interface, and messages
//! if neither has them. No access beyond this machine.

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::common::command::{Answer, Scratch};
use crate::common::read_tensors;
use crate::corpus;
use crate::tokenizers::{fixtures, lay_out};
use kernelview::analysis::Pretrained;
use kernelview::device::Dtype;
use kernelview::task::{PromptTokenizer, SpecialToken};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use server::{Accident, COMMIT, Files, Hub};

const ELSEWHERE: &str = "download the model on a machine with network access, and give the path of its directory";

/// The files of the tiny model in a scratch directory, as in a repository.
fn tiny(scratch: &Scratch) -> Files {
    let read = |name: &str| (name.to_owned(), fs::read(scratch.path("model").join(name)).expect("a file"));
    ["config.json", "model.safetensors", "tokenizer.json"].map(read).into()
}

/// The same with the weights in two shards.
fn sharded(scratch: &Scratch) -> Files {
    let mut files = tiny(scratch);
    let tensors: Vec<(String, Tensor)> = read_tensors(&scratch.path("model/model.safetensors")).into_iter().collect();
    let mut map = serde_json::Map::new();
    for (number, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", number + 1);
        let path = scratch.path("shard");
        Tensor::write_safetensors(part, &path).expect("a file");
        files.insert(name.clone(), fs::read(&path).expect("a file"));
        map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
    }
    files.remove("model.safetensors");
    let index = json!({ "weight_map": map }).to_string();
    files.insert("model.safetensors.index.json".into(), index.into_bytes());
    files
}

/// Stores files as Hugging Face's programs do; returns the snapshot.
fn cache(hub: &Path, files: &Files) -> PathBuf {
    let model = hub.join("models--org--tiny");
    let snapshot = model.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).expect("a directory");
    fs::create_dir_all(model.join("refs")).expect("a directory");
    fs::write(model.join("refs/main"), COMMIT).expect("a file");
    for (name, content) in files {
        fs::write(snapshot.join(name), content).expect("a file");
    }
    snapshot
}

/// An address where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// `kernel --model MODEL` with a Hugging Face home in the scratch directory and a hub at `endpoint`.
fn kernel(scratch: &Scratch, model: &str, endpoint: &str, variables: &[(&str, &str)]) -> Answer {
    kernel_of(scratch, model, endpoint, &[], variables)
}

/// The same with more arguments.
fn kernel_of(scratch: &Scratch, model: &str, endpoint: &str, more: &[&str], variables: &[(&str, &str)]) -> Answer {
    let mut command = scratch.command(&["kernel", "--model", model, "--formula", "sgd", "--out", "K.safetensors"]);
    command.args(more);
    for name in
        ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HF_ENDPOINT", endpoint).envs(variables.iter().copied());
    scratch.answer(&command.output().expect("the program starts"))
}

/// The kernel that the last command wrote.
fn written(scratch: &Scratch) -> Tensor {
    read_tensors(&scratch.path("K.safetensors")).remove("kernel.sgd").expect("a kernel")
}

/// The kernel of the model in the directory itself.
fn expected(scratch: &Scratch) -> Tensor {
    assert_eq!(scratch.kernel("--formula sgd --out K.safetensors").code, Some(0));
    let kernel = written(scratch);
    fs::remove_file(scratch.path("K.safetensors")).expect("a file");
    kernel
}

fn refused(answer: &Answer, message: &str) {
    assert_eq!(answer.stderr, format!("error: {message}\n"));
    assert_eq!(answer.code, Some(2));
}

#[test]
fn a_cached_model_needs_no_network() {
    let scratch = Scratch::new();
    let expected = expected(&scratch);
    let snapshot = cache(&scratch.path("hf/hub"), &tiny(&scratch));
    let by_commit = format!("org/tiny@{COMMIT}");
    for model in ["org/tiny", "org/tiny@main", by_commit.as_str()] {
        let answer = kernel(&scratch, model, &nowhere(), &[]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let line = format!("org/tiny: commit {COMMIT}, in DIR/hf/hub/models--org--tiny/snapshots/{COMMIT}");
        assert!(answer.stderr.contains(&line), "{answer:?}");
        assert_eq!(written(&scratch), expected);
    }
    let facts = Pretrained::load(&snapshot, Dtype::F32, Device::Cpu).expect("a model").facts;
    assert_eq!(facts.name, "org/tiny");
    assert_eq!(facts.note, Some(format!("from the Hugging Face hub, commit {COMMIT}")));
}

#[test]
fn the_cache_may_lie_elsewhere_and_hold_shards() {
    let scratch = Scratch::new();
    let expected = expected(&scratch);
    cache(&scratch.path("elsewhere"), &sharded(&scratch));
    let elsewhere = scratch.path("elsewhere").display().to_string();
    let answer = kernel(&scratch, "org/tiny", &nowhere(), &[("HF_HUB_CACHE", &elsewhere), ("HF_HUB_OFFLINE", "1")]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(written(&scratch), expected);
}

#[test]
fn what_is_needed_is_downloaded_once() {
    for files in [tiny, sharded] {
        let scratch = Scratch::new();
        let expected = expected(&scratch);
        let needed = files(&scratch);
        let mut all = needed.clone();
        for name in ["README.md", "tf_model.h5", "pytorch_model.bin", "vocab.txt", "onnx/model.onnx"] {
            all.insert(name.into(), b"not asked for".to_vec());
        }
        all.insert("tokenizer_config.json".into(), b"{}".to_vec());
        let hub = Hub::start(all);
        let answer = kernel(&scratch, "org/tiny", &hub.endpoint, &[]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.stderr.contains(COMMIT), "{answer:?}");
        assert_eq!(written(&scratch), expected);
        let needed: Vec<String> = needed.into_keys().chain(["tokenizer_config.json".to_owned()]).collect();
        assert_eq!(hub.files_asked(), BTreeSet::from_iter(needed).into_iter().collect::<Vec<_>>());
        let again = kernel(&scratch, "org/tiny", &nowhere(), &[("HF_HUB_OFFLINE", "1")]);
        assert_eq!(again.code, Some(0), "{again:?}");
    }
}

/// Like `gpt2` and `roberta-base`: downloaded from where the hub redirects, and kept under the given name.
#[test]
fn names_without_an_organization_are_found() {
    let scratch = Scratch::new();
    let expected = expected(&scratch);
    let hub = Hub::start(tiny(&scratch));
    let answer = kernel(&scratch, "tiny", &hub.endpoint, &[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(written(&scratch), expected);
    let again = kernel(&scratch, "tiny", &nowhere(), &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stderr.contains(&format!("models--tiny/snapshots/{COMMIT}")), "{again:?}");
    // An organization's model with that name in the cache is mentioned, but not used.
    let scratch = Scratch::new();
    cache(&scratch.path("hf/hub"), &tiny(&scratch));
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        refused(
            &kernel(&scratch, "tiny", &hub.endpoint, &[(variable, "1")]),
            &format!(
                "--model tiny: no such directory, built-in model (prose-64, prose-128, prose-256) or model fetched by `cargo xtask model`; not in the Hugging Face cache DIR/hf/hub (it has \
                 org/tiny), and {variable} forbids network access; {ELSEWHERE}"
            ),
        );
    }
}

#[test]
fn a_revision_and_what_the_cache_lacks_are_asked_for() {
    let scratch = Scratch::new();
    let mut files = tiny(&scratch);
    let hub = Hub::start(files.clone());
    files.remove("tokenizer.json");
    cache(&scratch.path("hf/hub"), &files);
    let answer = kernel(&scratch, "org/tiny@v1", &hub.endpoint, &[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(hub.files_asked(), ["tokenizer.json"]);
}

#[test]
fn a_broken_download_is_taken_up_again() {
    let scratch = Scratch::new();
    let expected = expected(&scratch);
    let hub = Hub::with_accident(tiny(&scratch), Accident::Breaks);
    let answer = kernel(&scratch, "org/tiny", &hub.endpoint, &[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(written(&scratch), expected);
}

/// The files of every architecture with one of its tokenizers, from the corpus of tokenizers.
fn architectures() -> BTreeMap<String, Files> {
    let (cases, right) = (corpus::json(&fixtures().join("cases.json")), corpus::json(&fixtures().join("logits.json")));
    let networks = &right["networks"];
    let list = |of: &Value| of["cases"].as_array().expect("cases").clone();
    let mut all = BTreeMap::new();
    for (case, right) in list(&cases).iter().zip(list(&right)) {
        let Some(name) = right["network"].as_str().filter(|name| !all.contains_key(*name)) else { continue };
        let directory = lay_out(case);
        let Ok(tokenizer) = PromptTokenizer::from_dir(directory.path()) else { continue };
        if is_masked(name) && tokenizer.special(SpecialToken::Mask).is_none() {
            continue;
        }
        corpus::write(&networks[name], directory.path());
        let entries = fs::read_dir(directory.path()).expect("the files").map(|e| e.expect("an entry").path());
        let file = |path: PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
            (name, fs::read(path).expect("a file"))
        };
        all.insert(name.to_owned(), entries.map(file).collect());
    }
    all
}

fn is_masked(architecture: &str) -> bool {
    architecture.contains("bert") || ["electra", "mpnet"].contains(&architecture)
}

/// Each has the files of its repositories: tables of words, merges or pieces, or all in one file.
#[test]
fn every_architecture_is_loaded_by_its_name() {
    let architectures = architectures();
    assert_eq!(architectures.len(), 23, "{:?}", architectures.keys());
    let mut tokenizers = BTreeSet::new();
    for (name, files) in architectures {
        let scratch = Scratch::new();
        scratch.write("own.tsv", "label\ttext\n1\tgreat\n0\there\n1\tthey were\n0\tit was\n1\tshe was\n0\tthree\n");
        let hub = Hub::start(files.clone());
        let reads = if is_masked(&name) { "*cls**sent_0**mask**sep+*" } else { "*cls**sent_0**mask*" };
        let own = "--data own.tsv --k 1 --label-words 0=they,1=was";
        let arguments: Vec<&str> = own.split(' ').chain(["--template", reads]).collect();
        let answer = kernel_of(&scratch, "org/tiny", &hub.endpoint, &arguments, &[]);
        assert_eq!(answer.code, Some(0), "{name}: {answer:?}");
        let asked = hub.files_asked();
        tokenizers.extend(
            asked.iter().filter(|file| !["config.json", "model.safetensors"].contains(&file.as_str())).cloned(),
        );
        for file in &asked {
            let arrived = scratch.path("hf/hub/models--org--tiny/snapshots").join(COMMIT).join(file);
            assert_eq!(fs::read(arrived).expect("a file"), files[file], "{name}: {file}");
        }
        let kernel = written(&scratch).to_kind(tch::Kind::Double);
        assert!(kernel.isfinite().all().int64_value(&[]) == 1 && kernel.abs().max().double_value(&[]) > 0.0, "{name}");
    }
    let known =
        ["merges.txt", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.json", "tokenizer.model"];
    assert!(known.iter().all(|file| tokenizers.contains(*file)), "{tokenizers:?}");
}

#[test]
fn a_changed_download_is_not_kept() {
    let scratch = Scratch::new();
    let expected = expected(&scratch);
    let hub = Hub::with_accident(tiny(&scratch), Accident::Changes);
    let endpoint = &hub.endpoint;
    refused(
        &kernel(&scratch, "org/tiny", endpoint, &[]),
        &format!(
            "--model org/tiny: no such directory, built-in model (prose-64, prose-128, prose-256) or model fetched by `cargo xtask model`; not in the Hugging Face cache DIR/hf/hub, and \
could not download model.safetensors from {endpoint}: the SHA-256 differs from the one stated by the hub; try again"
        ),
    );
    let answer = kernel(&scratch, "org/tiny", endpoint, &[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(written(&scratch), expected);
}

#[test]
fn what_neither_has_is_refused() {
    let scratch = Scratch::new();
    let start = |model: &str, lacking: &str| {
        format!(
            "--model {model}: no such directory, built-in model (prose-64, prose-128, prose-256) or model fetched by `cargo xtask model`; {lacking} in the Hugging Face cache DIR/hf/hub"
        )
    };
    let hub = Hub::start(tiny(&scratch));
    for model in ["org/none", "org/tiny@none"] {
        let endpoint = &hub.endpoint;
        refused(
            &kernel(&scratch, model, endpoint, &[]),
            &format!(
                "{}, and the hub at {endpoint} has no such model or revision, or it requires a token (status 404)",
                start(model, "not")
            ),
        );
    }
    let offline = [("HF_HUB_OFFLINE", "1")];
    refused(
        &kernel(&scratch, "roberta-base", &hub.endpoint, &offline),
        &format!("{}, and HF_HUB_OFFLINE forbids network access; {ELSEWHERE}", start("roberta-base", "not")),
    );
    let mut files = tiny(&scratch);
    files.remove("tokenizer.json");
    cache(&scratch.path("hf/hub"), &files);
    refused(
        &kernel(&scratch, "org/tiny", &hub.endpoint, &offline),
        &format!(
            "{}, and HF_HUB_OFFLINE forbids network access; {ELSEWHERE}",
            start("org/tiny", "without a tokenizer")
        ),
    );
    let nowhere = nowhere();
    let answer = kernel(&scratch, "org/tiny", &nowhere, &[]);
    let message = format!("{}, and cannot reach the hub at {nowhere}: ", start("org/tiny", "without a tokenizer"));
    assert!(answer.stderr.starts_with(&format!("error: {message}")), "{answer:?}");
    assert!(answer.stderr.ends_with(&format!("; {ELSEWHERE}\n")), "{answer:?}");
    assert_eq!(answer.code, Some(2));
    // Paths are not names on the hub.
    refused(
        &kernel(&scratch, "./org/tiny", &hub.endpoint, &[]),
        "./org/tiny: not a model directory (it does not exist); expected a directory with config.json, weights and \
         tokenizer.json",
    );
}

#[test]
fn repositories_without_what_this_program_reads_are_refused() {
    let scratch = Scratch::new();
    let start = "--model org/tiny: no such directory, built-in model (prose-64, prose-128, prose-256) or model fetched by `cargo xtask model`; not in the Hugging Face cache DIR/hf/hub, and";
    let mut files = tiny(&scratch);
    files.remove("model.safetensors");
    let hub = Hub::start(files);
    let endpoint = &hub.endpoint;
    refused(
        &kernel(&scratch, "org/tiny", endpoint, &[]),
        &format!(
            "{start} its repository at {endpoint} lacks some of config.json, weights (model.safetensors, \
             model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json) and a tokenizer \
             (tokenizer.json, vocab.txt, vocab.json, tokenizer.model, spiece.model, sentencepiece.bpe.model, spm.model)"
        ),
    );
    assert_eq!(hub.files_asked(), [""; 0]);
    // A shard that would be written outside of the cache.
    let mut files = sharded(&scratch);
    let index = json!({ "weight_map": { "a": "../../outside" } }).to_string();
    files.insert("model.safetensors.index.json".into(), index.into_bytes());
    let hub = Hub::start(files);
    let answer = kernel(&scratch, "org/tiny", &hub.endpoint, &[]);
    assert!(answer.stderr.contains("shard `../../outside` is outside the model directory"), "{answer:?}");
    assert_eq!(answer.code, Some(2));
}
