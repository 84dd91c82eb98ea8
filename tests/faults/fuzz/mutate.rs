//! Damage: to bits and lengths anywhere; to numbers, names and nesting of text files; and to the parts of a container that is
//! itself kept valid.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use zip::ZipArchive;

use crate::common::bin::archive;

/// The structure of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes with their own layout.
    Binary,
    /// Text.
    Text,
    /// Eight bytes of length, that much JSON, bytes.
    Headed,
    /// A zip archive with checksums, of a pickle program and storages.
    Zipped,
}

/// Lengths, counts and offsets that are critical for readers.
const INTEGERS: [u64; 14] =
    [0, 1, 2, 7, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX];

/// Replacements for a number, a name or a list.
const VALUES: [&str; 24] = [
    "0",
    "-1",
    "1",
    "2.5",
    "1e308",
    "1e999",
    "-1e-999",
    "NaN",
    "Infinity",
    "null",
    "true",
    "\"\"",
    "\"a\"",
    "[]",
    "{}",
    "18446744073709551615",
    "9223372036854775807",
    "-9223372036854775808",
    "340282366920938463463374607431768211456",
    "4294967296",
    "1000000",
    "[[[[[[]]]]]]",
    "{\"a\":{\"a\":{}}}",
    "\"\\ud800\"",
];

/// Texts that split, end or quote.
const TEXTS: [&str; 20] = [
    "\0",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\"",
    "\"\"",
    "'",
    ",",
    "*",
    "_",
    "\\",
    "\u{feff}",
    "\u{2028}",
    "\u{1f600}",
    "é",
    "[MASK]",
    "*mask*",
    "=",
    "#",
];

/// One damaged file.
pub fn case(random: &mut ChaCha8Rng, form: Form, seeds: &[Vec<u8>]) -> Vec<u8> {
    let seed = seeds.choose(random).expect("a seed").clone();
    let rounds = 1 + random.random_range(0..4usize) * random.random_range(0..2usize);
    if random.random_bool(0.7) {
        match form {
            Form::Headed => return headed(random, &seed, rounds),
            Form::Zipped => return zipped(random, &seed, rounds),
            Form::Text | Form::Binary => {}
        }
    }
    let mut bytes = seed;
    for _ in 0..rounds {
        if form == Form::Text && random.random_bool(0.7) {
            text(random, &mut bytes);
        } else {
            binary(random, &mut bytes, seeds);
        }
    }
    bytes
}

/// Damage to the JSON, with its length corrected.
fn headed(random: &mut ChaCha8Rng, seed: &[u8], rounds: usize) -> Vec<u8> {
    let length = seed.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)) as usize;
    let mut json = seed[8..8 + length].to_vec();
    for _ in 0..rounds {
        text(random, &mut json);
    }
    [&(json.len() as u64).to_le_bytes(), &json[..], &seed[8 + length..]].concat()
}

/// Damage to the program or a storage, with correct checksums.
fn zipped(random: &mut ChaCha8Rng, seed: &[u8], rounds: usize) -> Vec<u8> {
    let mut zip = ZipArchive::new(Cursor::new(seed)).expect("an undamaged archive");
    let mut entry = |name: &str| {
        let mut bytes = Vec::new();
        zip.by_name(name).expect("an entry").read_to_end(&mut bytes).expect("memory");
        bytes
    };
    let mut program = entry("archive/data.pkl");
    let names: Vec<String> =
        ZipArchive::new(Cursor::new(seed)).expect("the same").file_names().map(str::to_owned).collect();
    let keys = names.iter().filter_map(|name| name.strip_prefix("archive/data/"));
    let mut storages: BTreeMap<String, Vec<u8>> =
        keys.map(|key| (key.to_owned(), entry(&format!("archive/data/{key}")))).collect();
    let programs = [program.clone()];
    for _ in 0..rounds {
        if random.random_bool(0.9) {
            binary(random, &mut program, &programs);
        } else if let Some(key) = storages.keys().cloned().collect::<Vec<_>>().choose(random) {
            let storage = storages.get_mut(key).expect("a storage");
            binary(random, storage, &programs);
        }
    }
    archive(&program, &storages)
}

/// A position in the file, more often near its beginning, where headers are.
fn place(random: &mut ChaCha8Rng, length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    let limit = if random.random_bool(0.5) { length.min(512) } else { length };
    random.random_range(0..limit)
}

fn binary(random: &mut ChaCha8Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = place(random, bytes.len());
    let end = (at + random.random_range(0..64usize)).min(bytes.len());
    match random.random_range(0..9u32) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8u32),
        1 if at < bytes.len() => bytes[at] = random.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let other = seeds.choose(random).expect("a seed");
            let from = place(random, other.len());
            let to = (from + random.random_range(0..256usize)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        6 => bytes.extend(std::iter::repeat_n(random.random::<u8>(), random.random_range(0..64usize))),
        kind => {
            // A length, count or offset of eight or four bytes, often where one is aligned.
            let at = if random.random_bool(0.5) { at / 8 * 8 } else { at };
            let number = INTEGERS.choose(random).expect("a number").to_le_bytes();
            let width = if kind == 7 { 8 } else { 4 };
            for (byte, new) in bytes.iter_mut().skip(at).take(width).zip(number) {
                *byte = new;
            }
        }
    }
}

fn text(random: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let length = bytes.len();
    match random.random_range(0..8u32) {
        // Another value in place of one.
        0..=2 => {
            if let Some((from, to)) = value(random, bytes) {
                bytes.splice(from..to, VALUES.choose(random).expect("a value").bytes());
            }
        }
        3 => {
            let at = place(random, length);
            bytes.splice(at..at, TEXTS.choose(random).expect("a text").bytes());
        }
        // A line or an entry twice, or gone.
        4 | 5 => {
            let mark = if random.random_bool(0.5) { b'\n' } else { b',' };
            let at = place(random, length);
            let from = bytes[..at].iter().rposition(|b| *b == mark).map_or(0, |p| p + 1);
            let to = bytes[at..].iter().position(|b| *b == mark).map_or(length, |p| at + p + 1);
            let piece = bytes[from..to].to_vec();
            if random.random_bool(0.5) { drop(bytes.drain(from..to)) } else { drop(bytes.splice(from..from, piece)) }
        }
        // Nesting beyond any call stack.
        6 => {
            let depth = *[8usize, 127, 128, 129, 1000, 20_000].choose(random).expect("a depth");
            let (open, close) = *[("[", "]"), ("{\"a\":", "}"), ("(", ")")].choose(random).expect("a bracket");
            let nested = open.repeat(depth) + &close.repeat(if random.random_bool(0.5) { depth } else { 0 });
            let (from, to) = value(random, bytes).unwrap_or((0, length));
            bytes.splice(from..to, nested.bytes());
        }
        _ => {
            let at = place(random, length);
            if at < length {
                bytes[at] = random.random();
            }
        }
    }
}

/// Start and end of some value in the text: a run of characters without blanks, commas, colons and brackets.
fn value(random: &mut ChaCha8Rng, bytes: &[u8]) -> Option<(usize, usize)> {
    let ends = |b: &u8| b" \t\r\n,:=[]{}".contains(b);
    let at = place(random, bytes.len());
    let from = at + bytes[at..].iter().position(|b| !ends(b))?;
    let to = bytes[from..].iter().position(ends).map_or(bytes.len(), |p| from + p);
    Some((from, to))
}
