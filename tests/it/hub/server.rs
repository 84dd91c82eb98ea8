//! A hub on the loopback interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use sha2::{Digest as _, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files of a repository.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A fault of the first answer with the weights.
#[derive(PartialEq)]
pub enum Accident {
    None,
    /// It is cut off in the middle.
    Breaks,
    /// Its last byte is changed.
    Changes,
}

/// A hub with one model, `org/tiny`, at one commit.
pub struct Hub {
    pub endpoint: String,
    /// The requested paths.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Hub {
    /// Answers until the process ends.
    pub fn start(files: Files) -> Self {
        Self::with_accident(files, Accident::None)
    }

    pub fn with_accident(files: Files, accident: Accident) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            let mut accident = accident;
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                answer(&stream, &files, &seen, &mut accident);
            }
        });
        Self { endpoint, asked }
    }

    pub fn files_asked(&self) -> Vec<String> {
        let start = format!("/org/tiny/resolve/{COMMIT}/");
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter_map(|path| path.strip_prefix(&start)).map(str::to_owned).collect()
    }
}

/// Answers one request, with the hub's headers: sizes, commit and entity tag, parts of files.
fn answer(mut stream: &TcpStream, files: &Files, asked: &Mutex<BTreeSet<String>>, accident: &mut Accident) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next().and_then(|l| l.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|l| !l.is_empty()).map(|l| l.to_lowercase()).collect();
    asked.lock().expect("no panic").insert(path.clone());
    let mut send = |status: &str, headers: &str, body: &[u8], length: usize| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        // The reader may have closed the connection.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    // The hub redirects names without an organization to those with one.
    for start in ["/api/models/", "/"] {
        if let Some(rest) = path.strip_prefix(&format!("{start}tiny/")) {
            return send("307 Temporary Redirect", &format!("Location: {start}org/tiny/{rest}\r\n"), b"", 0);
        }
    }
    if ["main", COMMIT, "v1"].iter().any(|revision| path == format!("/api/models/org/tiny/revision/{revision}")) {
        let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
        let body = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return send("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), body.len());
    }
    let file = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")).and_then(|name| files.get(name));
    let Some(content) = file else { return send("404 Not Found", "", b"", 0) };
    let range = headers.iter().find_map(|l| l.strip_prefix("range: bytes=")).expect("a part is asked for");
    let (from, to) = range.split_once('-').expect("a range");
    let from: usize = from.parse().expect("a number");
    let to = to.parse::<usize>().map_or(content.len(), |to| to + 1);
    let part = &content[from..to];
    let is_weights = path.ends_with(".safetensors");
    // As on the hub: large files by their SHA-256.
    let tag = if is_weights {
        Sha256::digest(content).iter().fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"))
    } else {
        format!("tag-{}", path.rsplit('/').next().unwrap_or_default().replace('.', "-"))
    };
    let headers = format!(
        "ETag: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {from}-{}/{}\r\n",
        to - 1,
        content.len()
    );
    let mut sent = part.to_vec();
    if is_weights && part.len() > 1 {
        match std::mem::replace(accident, Accident::None) {
            Accident::None => {}
            Accident::Breaks => sent.truncate(part.len() / 2),
            Accident::Changes => sent[part.len() - 1] ^= 1,
        }
    }
    send("206 Partial Content", &headers, &sent, part.len());
}
