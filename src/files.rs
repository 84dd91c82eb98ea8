//! Atomic writes, stored results, and SHA-256 digests of contents.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::progress::check_cancelled;

/// Writes `bytes` to a temporary neighbour, flushes it to disk and renames it to `path`.
///
/// # Errors
/// As [`write_by`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by(path, |part| {
        let written = File::create(part).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(Error::io("write", path))
    })
}

/// Lets `write` write a temporary neighbour, and renames it to `path`, or to the file that `path` is a link to.
///
/// # Errors
/// [`Error::Format`] if something other than a regular file would be replaced; [`Error::Io`].
pub fn write_by(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if let Some(what) = irregular(path) {
        return Err(Error::format(path, format!("is {what}, which a file would replace; choose another name")));
    }
    let place = destination(path)?;
    let part = part_path(&place);
    let renamed = || fs::rename(&part, &place).map_err(Error::io("write", path));
    write(&part).and_then(|()| renamed()).inspect_err(|_| {
        // The half-written neighbour is useless; failing to remove it does no harm.
        let _ = fs::remove_file(&part);
    })
}

/// What there is at a path or behind its links, if it is not a regular file: "a directory", "a pipe", …
pub(crate) fn irregular(path: &Path) -> Option<&'static str> {
    let found = fs::metadata(path).ok()?.file_type();
    if found.is_file() {
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.is_fifo() {
            return Some("a pipe");
        }
        if found.is_socket() {
            return Some("a socket");
        }
        if found.is_char_device() || found.is_block_device() {
            return Some("a device");
        }
    }
    Some(if found.is_dir() { "a directory" } else { "not a regular file" })
}

/// The file that is written for a path: the path itself, or what it is a link to, whether that exists yet or not.
///
/// # Errors
/// [`Error::Io`] for links that form a circle or lead to where this process may not look.
pub(crate) fn destination(path: &Path) -> Result<PathBuf> {
    if let Err(e) = fs::metadata(path)
        && !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
    {
        return Err(Error::io("write", path)(e));
    }
    // Without a circle the links come to an end.
    let mut place = path.to_path_buf();
    while let Ok(target) = fs::read_link(&place) {
        place = place.parent().unwrap_or(Path::new("")).join(target);
    }
    Ok(place)
}

/// The temporary name next to `path`, different for every process.
pub(crate) fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".part-{}", std::process::id()));
    path.with_file_name(name)
}

/// Creates a directory and its parents.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create directory", path))
}

/// Reads a whole file as text.
pub fn read_text(path: &Path) -> Result<String> {
    utf8(path, read_whole(path)?)
}

/// Reads a whole file of a checkpoint.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] if the file is a placeholder, see [`check_content`].
pub fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    check_content(path, &bytes)?;
    Ok(bytes)
}

/// Fails if a file that begins with these bytes is not a checkpoint's, but a placeholder left by git or a web server.
///
/// # Errors
/// [`Error::Format`] for a pointer of Git LFS and for a web page.
pub fn check_content(path: &Path, start: &[u8]) -> Result<()> {
    let start = start.trim_ascii_start();
    if start.starts_with(b"version https://git-lfs.github.com/spec/") {
        let message =
            "this is a Git LFS pointer, not the file itself: run `git lfs pull` in the clone, or download the file";
        return Err(Error::format(path, message));
    }
    let is_page = [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|page| start.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page)));
    if is_page {
        let message = "this is a web page, not the file itself: download the file again, from its raw address";
        return Err(Error::format(path, message));
    }
    Ok(())
}

/// A file's bytes, unpacked if they are gzip, and the hexadecimal SHA-256 of the file on disk.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a damaged archive.
pub fn read_unpacked(path: &Path) -> Result<(Vec<u8>, String)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let sha256 = sha256(&bytes);
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok((bytes, sha256));
    }
    let mut plain = Vec::new();
    match MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain) {
        Ok(_) => Ok((plain, sha256)),
        Err(reason) => Err(Error::format(
            path,
            format!(
                "cannot be unpacked as gzip ({reason}); download the file \
                                                        again"
            ),
        )),
    }
}

/// Whether there is such a file.
///
/// # Errors
/// A dangling link, as left by interrupted downloads in Hugging Face's cache.
pub(crate) fn is_there(file: &Path) -> Result<bool> {
    if file.exists() {
        return Ok(true);
    }
    let Ok(target) = fs::read_link(file) else { return Ok(false) };
    let target = target.display();
    let message =
        format!("this is a link to {target}, which does not exist: an interrupted download; download the model again");
    Err(Error::format(file, message))
}

/// Decodes a file's bytes as text.
pub fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|e| Error::format(path, format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

/// A stored value with the digest of everything it depends on.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    digest: String,
    value: T,
}

/// The value that [`store_result`] stored in a file under this digest. `None` if the file is missing, unreadable or has
/// another digest: the result must be computed again.
pub fn load_result<T: DeserializeOwned>(path: &Path, digest: &str) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    let stored = serde_json::from_slice::<Stored<T>>(&bytes).ok()?;
    (stored.digest == digest).then_some(stored.value)
}

/// Stores a value as JSON under the digest of everything it depends on.
pub fn store_result(path: &Path, digest: &str, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(&Stored { digest: digest.to_owned(), value }).expect("a result is plain data");
    write_atomic(path, &bytes)
}

/// Hexadecimal SHA-256 of a file, read in pieces.
///
/// # Errors
/// [`Error::Io`]; [`Error::Interrupted`].
pub fn file_digest(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        check_cancelled()?;
        match file.read(&mut piece).map_err(Error::io("read", path))? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            count => hasher.update(&piece[..count]),
        }
    }
}

/// Lower-case hexadecimal SHA-256 of some bytes: what `sha256sum` prints for a file of them.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal SHA-256 of several byte strings, each preceded by its length.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hexadecimal(&hash.finalize())
}

/// [`digest`] of a single byte string of `length` bytes that comes in pieces, so that it is never whole in memory.
///
/// # Errors
/// [`Error::Interrupted`], between two pieces.
pub fn digest_pieces(length: usize, pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update((length as u64).to_le_bytes());
    for piece in pieces {
        check_cancelled()?;
        hash.update(piece);
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// The file name of an absolute path; any other path unchanged. Files for other machines must not reveal this one's
/// directories.
pub fn without_directory(path: &Path) -> String {
    let name = path.file_name().filter(|_| path.is_absolute());
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The same for every absolute path in a message.
pub fn without_directories(message: &str) -> String {
    message
        .split_inclusive(char::is_whitespace)
        .map(|word| last_part(word).unwrap_or_else(|| word.to_owned()))
        .collect()
}

/// Shortens a word that is an absolute path, possibly after an opening mark, to the path's last component.
fn last_part(word: &str) -> Option<String> {
    let start = word.find('/').filter(|at| *at == 0 || word[..*at].ends_with(['`', '\'', '"', '(', '=']))?;
    let name = word[start..].split('/').rfind(|part| part.contains(|c: char| c.is_alphanumeric()))?;
    Some(format!("{}{name}", &word[..start]))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The seed of a named draw: a hash of a run's seed and the name, so that draws have independent streams and do not depend
/// on their order.
pub fn named_seed(seed: u64, name: &str) -> u64 {
    let digest = digest([&seed.to_le_bytes()[..], name.as_bytes()]);
    u64::from_str_radix(&digest[..16], 16).expect("a digest is hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_for_others_name_files_without_their_directories() {
        for (message, expected) in [
            ("cannot read /home/a/data/train.tsv: No such file", "cannot read train.tsv: No such file"),
            ("the vocabulary in `/m/bert/vocab.txt` is empty", "the vocabulary in `vocab.txt` is empty"),
            ("--data=/a/b.tsv and ../c/d.tsv, 3 / 4, a/b", "--data=b.tsv and ../c/d.tsv, 3 / 4, a/b"),
        ] {
            assert_eq!(without_directories(message), expected);
        }
        assert_eq!(without_directory(Path::new("/home/a/my rows.tsv")), "my rows.tsv");
        assert_eq!(without_directory(Path::new("../rows.tsv")), "../rows.tsv");
    }

    #[cfg(unix)]
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Fails for: a link that is replaced, a target that stays as it was, a relative target that is looked for elsewhere
    /// than at its link, a temporary file that is left behind.
    #[test]
    #[cfg(unix)]
    fn links_stay_and_what_they_lead_to_is_written() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().expect("a directory");
        let place = |name: &str| directory.path().join(name);
        fs::create_dir(place("far")).expect("a directory");
        fs::write(place("far/old"), "old").expect("written");
        // To a file, to one that does not exist yet, and to a link.
        for (link, target, file) in
            [("one", "far/old", "far/old"), ("two", "far/new", "far/new"), ("far/three", "../one", "far/old")]
        {
            symlink(target, place(link)).expect("a link");
            write_atomic(&place(link), link.as_bytes()).expect("written");
            assert!(place(link).is_symlink() && !place(file).is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(place(file)).expect("a file"), link);
        }
        // In a circle, and into a directory that does not exist.
        for (link, target) in [("four", "five"), ("five", "four"), ("six", "none/file")] {
            symlink(target, place(link)).expect("a link");
        }
        for link in ["four", "five", "six"] {
            let error = write_atomic(&place(link), b"new").expect_err("nowhere to write").to_string();
            assert!(error.starts_with(&format!("cannot write {}: ", place(link).display())), "{error}");
            assert!(place(link).is_symlink(), "{link}");
        }
        assert_eq!(names(directory.path()), ["far", "five", "four", "one", "six", "two"]);
        assert_eq!(names(&place("far")), ["new", "old", "three"]);
    }

    /// Fails for: a directory, a socket or a device that is replaced by a file, itself or through a link.
    #[test]
    #[cfg(unix)]
    fn only_regular_files_are_replaced() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().expect("a directory");
        let place = |name: &str| directory.path().join(name);
        fs::create_dir(place("directory")).expect("a directory");
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).expect("a socket");
        symlink("socket", place("link")).expect("a link");
        for (name, what) in [("directory", "a directory"), ("socket", "a socket"), ("link", "a socket")] {
            assert_eq!(irregular(&place(name)), Some(what), "{name}");
            let error = write_atomic(&place(name), b"new").expect_err("refused");
            let message = format!("is {what}, which a file would replace; choose another name");
            assert_eq!((error.exit_code(), error.to_string()), (2, format!("{}: {message}", place(name).display())));
        }
        assert_eq!(names(directory.path()), ["directory", "link", "socket"]);
        assert_eq!(irregular(Path::new("/dev/null")), Some("a device"));
        fs::write(place("file"), "").expect("written");
        assert_eq!((irregular(&place("file")), irregular(&place("none"))), (None, None));
    }
}
