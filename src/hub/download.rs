//! Downloads the files of one commit that this program reads, and no others, into the cache with the `hf-hub` library.

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

/// The default of `HF_ENDPOINT`.
const HUB: &str = "https://huggingface.co";

/// What to do if the hub is unreachable.
pub(super) const ELSEWHERE: &str = "download the model on a machine with network access, and give the path of its \
                                    directory";

/// How often a broken download is resumed.
const RETRIES: usize = 3;

/// Downloads the missing files of a model. Returns the directory of its snapshot, or the reason for the failure.
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
            "its repository at {endpoint} lacks some of {CONFIG}, weights ({}) and a tokenizer ({})",
            WEIGHTS.join(", "),
            TOKENIZERS.join(", ")
        ));
    };
    // All from one commit, even if the branch moves meanwhile.
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
    noted.map_err(|e| format!("cannot write to the cache: {e}"))?;
    Ok(snapshot)
}

fn fetch(repository: &ApiRepo, snapshot: &Path, file: &str, endpoint: &str) -> Result<(), String> {
    if snapshot.join(file).exists() {
        return Ok(());
    }
    let wrong = |reason: &str| format!("could not download {file} from {endpoint}: {reason}");
    let path = repository.download(file).map_err(|e| wrong(&reason(&e)))?;
    let blob = fs::canonicalize(&path).map_err(|e| wrong(&e.to_string()))?;
    if is_whole(&blob).map_err(|e| wrong(&e.to_string()))? {
        return Ok(());
    }
    for damaged in [path, blob] {
        fs::remove_file(damaged).map_err(|e| wrong(&e.to_string()))?;
    }
    Err(wrong("the SHA-256 differs from the one stated by the hub; try again"))
}

/// Whether a file matches its name: large files are named by their SHA-256; small ones, by something that only the hub can
/// compute, always pass.
fn is_whole(blob: &Path) -> Result<bool> {
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.len() != 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(true);
    }
    Ok(file_digest(blob)? == name.to_lowercase())
}

/// `HF_TOKEN`, else the `token` file of Hugging Face's login.
fn token() -> Option<String> {
    let stored = || fs::read_to_string(home()?.join("token")).ok();
    let token = std::env::var("HF_TOKEN").ok().or_else(stored)?;
    Some(token.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Why the hub did not list the model's files.
fn unanswered(endpoint: &str, error: &ApiError) -> String {
    match status(error) {
        // Without a token, the hub does not distinguish the two.
        Some(code @ (401 | 403 | 404)) => {
            format!("the hub at {endpoint} has no such model or revision, or it requires a token (status {code})")
        }
        Some(code) => format!("the hub at {endpoint} answered with status {code}"),
        None => format!("cannot reach the hub at {endpoint}: {}; {ELSEWHERE}", reason(error)),
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

/// The library's message without its prefix.
fn reason(error: &ApiError) -> String {
    let text = error.to_string();
    text.strip_prefix("request error: ").unwrap_or(&text).to_owned()
}
