//! From the hub into the cache, by the `hf-hub` library: the files of one commit that this program reads, and no others.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use hf_hub::Cache;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};

use super::HubName;
use super::cache::{CONFIG, OPTIONAL, TOKENIZERS, WEIGHTS, beside, home, is_commit, is_index, repository};
use crate::error::Result;
use crate::files::file_digest;
use crate::lm::shard_names;

/// Where models are unless `HF_ENDPOINT` says otherwise.
const HUB: &str = "https://huggingface.co";

/// What to do without the hub.
pub(super) const ELSEWHERE: &str = "download the model where there is a network, and give the path of its directory";

/// Times that a broken download is taken up again where it broke.
const RETRIES: usize = 3;

/// Downloads what the cache lacks of a model; gives the directory of its snapshot, or the reason why not.
pub(super) fn download(root: &Path, name: &HubName) -> Result<PathBuf, String> {
    let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|e| !e.is_empty()).unwrap_or_else(|| HUB.to_owned());
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let cache = Cache::new(root.to_path_buf());
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(endpoint.clone())
        .with_token(token())
        .with_retries(RETRIES)
        .with_progress(std::io::stderr().is_terminal())
        .build()
        .map_err(|e| e.to_string())?;
    let named = repository(&name.model, &name.revision);
    let about = api.repo(named.clone()).info().map_err(|e| unanswered(&endpoint, &e))?;
    if !is_commit(&about.sha) {
        return Err(format!("the hub at {endpoint} answered with `{}` for a commit", about.sha));
    }
    let has = |file: &&str| about.siblings.iter().any(|s| s.rfilename == **file);
    let weights = WEIGHTS.into_iter().find(|f| has(f));
    let tokenizer = TOKENIZERS.into_iter().find(|f| has(f));
    let (Some(weights), Some(tokenizer), true) = (weights, tokenizer, has(&CONFIG)) else {
        return Err(format!(
            "its repository at {endpoint} has not all of {CONFIG}, weights ({}) and a tokenizer ({})",
            WEIGHTS.join(", "),
            TOKENIZERS.join(", ")
        ));
    };
    // All from one commit, whatever the branch does meanwhile.
    let repository = api.repo(repository(&name.model, &about.sha));
    let snapshot = cache.repo(named.clone()).pointer_path(&about.sha);
    let fetch = |file: &str| fetch(&repository, &snapshot, file, &endpoint);
    for file in [CONFIG, tokenizer].into_iter().chain(beside(tokenizer)).chain(OPTIONAL.into_iter().filter(has)) {
        fetch(file)?;
    }
    fetch(weights)?;
    if is_index(weights) {
        for shard in shard_names(&snapshot.join(weights)).map_err(|e| e.to_string())? {
            fetch(&shard)?;
        }
    }
    let noted = cache.repo(named).create_ref(&about.sha);
    noted.map_err(|e| format!("the cache cannot be written: {e}"))?;
    Ok(snapshot)
}

fn fetch(repository: &ApiRepo, snapshot: &Path, file: &str, endpoint: &str) -> Result<(), String> {
    if snapshot.join(file).exists() {
        return Ok(());
    }
    let wrong = |reason: &str| format!("{file} could not be downloaded from {endpoint}: {reason}");
    let path = repository.download(file).map_err(|e| wrong(&reason(&e)))?;
    let blob = fs::canonicalize(&path).map_err(|e| wrong(&e.to_string()))?;
    if is_whole(&blob).map_err(|e| wrong(&e.to_string()))? {
        return Ok(());
    }
    for damaged in [path, blob] {
        fs::remove_file(damaged).map_err(|e| wrong(&e.to_string()))?;
    }
    Err(wrong("what arrived has not the SHA-256 that the hub gives; try again"))
}

/// Whether a file has the content that its name promises: large files are named after their SHA-256, small ones after
/// something that only the hub can compute.
fn is_whole(blob: &Path) -> Result<bool> {
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.len() != 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(true);
    }
    Ok(file_digest(blob)? == name.to_lowercase())
}

/// `HF_TOKEN`, else what Hugging Face's login left in the file `token`.
fn token() -> Option<String> {
    let stored = || fs::read_to_string(home()?.join("token")).ok();
    let token = std::env::var("HF_TOKEN").ok().or_else(stored)?;
    Some(token.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Why the hub did not say what it has.
fn unanswered(endpoint: &str, error: &ApiError) -> String {
    match status(error) {
        // The hub does not tell strangers which of the two it is.
        Some(code @ (401 | 403 | 404)) => {
            format!(
                "the hub at {endpoint} has no such model or revision, or shows it to no one without a token ({code})"
            )
        }
        Some(code) => format!("the hub at {endpoint} answered with status {code}"),
        None => format!("the hub at {endpoint} cannot be asked: {}; {ELSEWHERE}", reason(error)),
    }
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(request) => match **request {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}

/// The library's words, without its own prefix.
fn reason(error: &ApiError) -> String {
    let text = error.to_string();
    text.strip_prefix("request error: ").unwrap_or(&text).to_owned()
}
