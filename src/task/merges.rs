//! The merges implied by a vocabulary of scored pieces: SentencePiece's BPE models, in their own files and in GGUF files,
//! have none. Source: `generate_merges` of transformers.

use std::cmp::Ordering;
use std::collections::HashMap;

use tokenizers::models::bpe::Merges;

/// Every way to compose a piece from two in `ids`: better scores first, then longer left and right parts; ties in order of
/// the pieces, and for one piece in order of the parts' ids. A piece that occurs twice keeps its first position with its
/// last score.
pub(super) fn merges(vocab: &[(String, f64)], ids: &HashMap<&str, usize>) -> Merges {
    let mut pieces: Vec<(&str, f64)> = Vec::with_capacity(vocab.len());
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(vocab.len());
    for (text, score) in vocab {
        if let Some(place) = places.get(text.as_str()) {
            pieces[*place].1 = *score;
        } else {
            places.insert(text, pieces.len());
            pieces.push((text, *score));
        }
    }
    let mut found: Vec<(&str, &str, f64)> = Vec::new();
    for (text, score) in pieces {
        let first = found.len();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                found.push((left, right, score));
            }
        }
        found[first..].sort_by_key(|(left, right, _)| (ids[left], ids[right]));
    }
    let length = |text: &str| text.chars().count();
    found.sort_by(|a, b| {
        let key = |(left, right, score): &(&str, &str, f64)| (*score, length(left), length(right));
        key(b).partial_cmp(&key(a)).unwrap_or(Ordering::Equal)
    });
    found.into_iter().map(|(left, right, _)| (left.to_string(), right.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `generate_merges` of transformers 4.57.6 for the same pieces.
    #[test]
    fn ranks_ties_and_pieces_that_come_twice() {
        let vocab: Vec<(String, f64)> = [
            ("a", -1.0),
            ("b", -2.0),
            ("ab", -3.0),
            ("ba", -3.0),
            ("aba", -1.5),
            ("ab", -0.5),
            ("abab", -1.5),
            ("é", -4.0),
            ("éa", -1.5),
        ]
        .map(|(text, score)| (text.to_string(), score))
        .to_vec();
        let ids: HashMap<&str, usize> = vocab.iter().enumerate().map(|(id, (text, _))| (text.as_str(), id)).collect();
        let found = merges(&vocab, &ids);
        let found: Vec<(&str, &str)> = found.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
        let right = [("a", "b"), ("aba", "b"), ("ab", "ab"), ("ab", "a"), ("a", "ba"), ("é", "a"), ("b", "a")];
        assert_eq!(found, right);
    }
}
