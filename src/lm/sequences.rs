//! The token sequences in which a prompt's answers are read, and what is read where. Only integers.
//!
//! A causal model reads an answer in the prompt followed by the answer, each token at the preceding one; a masked model
//! reads it in the prompt with one mask per token, token j at mask j. What two answers read from equal inputs is read once,
//! so that their difference has exactly the terms that it has in exact arithmetic: those of common prefixes, and normalizing
//! constants at shared positions, cancel.

use std::collections::BTreeMap;

use super::examples::AnsweredExample;
use super::model::{NetworkFacts, Reads};

/// A sequence of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub ids: Vec<i64>,
    pub segments: Vec<i64>,
}

/// A multiple of one log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Term {
    /// Index of the sequence within its row.
    pub sequence: usize,
    /// Position to read.
    pub position: usize,
    pub token: i64,
    /// Index of the output within its row.
    pub output: usize,
    pub weight: f64,
}

/// A row of the batch: some sequences, and outputs that are sums of what is read in them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub sequences: Vec<Sequence>,
    pub terms: Vec<Term>,
}

/// How an example's outputs are made of its answers' log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Combination {
    /// One output for each answer, all in one row.
    Each,
    /// One row for each answer.
    Apart,
    /// The second answer's minus the first's.
    Difference,
}

/// A single answer.
struct Alone {
    sequence: Sequence,
    /// Positions with the tokens that are read there.
    reads: Vec<(usize, i64)>,
}

fn alone(facts: &NetworkFacts, example: &AnsweredExample, answer: &[i64]) -> Alone {
    let prompt = &example.prompt;
    let (at, more) = (prompt.mask_position, answer.len() - 1);
    let (mut ids, mut segments) = (prompt.input_ids.clone(), prompt.segment_ids.clone());
    match facts.reads {
        // Nothing is read after the answer's last token, so it is not an input.
        Reads::LastToken => ids.extend(&answer[..more]),
        Reads::Mask => drop(ids.splice(at..at, vec![prompt.input_ids[at]; more])),
    }
    segments.splice(at..at, vec![prompt.segment_ids[at]; more]);
    let reads = answer.iter().enumerate().map(|(j, token)| (at + j, *token)).collect();
    Alone { sequence: Sequence { ids, segments }, reads }
}

/// The rows of an example.
pub(super) fn rows(facts: &NetworkFacts, example: &AnsweredExample, combination: Combination) -> Vec<Row> {
    let answers: Vec<Alone> = example.answers.iter().map(|answer| alone(facts, example, answer)).collect();
    if combination == Combination::Apart {
        let row = |a: &Alone| {
            let term = |(position, token): &(usize, i64)| Term {
                sequence: 0,
                position: *position,
                token: *token,
                output: 0,
                weight: 1.0,
            };
            Row { sequences: vec![a.sequence.clone()], terms: a.reads.iter().map(term).collect() }
        };
        return answers.iter().map(row).collect();
    }
    let shared = distinct(facts, &answers);
    let mut weights: BTreeMap<(usize, usize, usize, i64), f64> = BTreeMap::new();
    for (class, answer) in answers.iter().enumerate() {
        let (output, weight) = match combination {
            Combination::Difference => (0, if class == 1 { 1.0 } else { -1.0 }),
            _ => (class, 1.0),
        };
        for (position, token) in &answer.reads {
            let sequence = shared.iter().position(|s| serves(facts, s, &answer.sequence, *position));
            let sequence = sequence.expect("a sequence for every answer");
            *weights.entry((output, sequence, *position, *token)).or_default() += weight;
        }
    }
    let terms = weights.into_iter().filter(|(_, weight)| *weight != 0.0);
    let term = |((output, sequence, position, token), weight)| Term { sequence, position, token, output, weight };
    vec![Row { terms: terms.map(term).collect(), sequences: shared }]
}

/// The sequences in which all answers can be read.
fn distinct(facts: &NetworkFacts, answers: &[Alone]) -> Vec<Sequence> {
    let mut kept: Vec<Sequence> = Vec::new();
    for Alone { sequence, .. } in answers {
        let end = |s: &Sequence| s.ids.len() - 1;
        if kept.iter().any(|known| serves(facts, known, sequence, end(sequence))) {
            continue;
        }
        kept.retain(|known| !serves(facts, sequence, known, end(known)));
        kept.push(sequence.clone());
    }
    kept
}

/// Whether two sequences have the same state at a position: in causal models equal prefixes suffice.
fn serves(facts: &NetworkFacts, other: &Sequence, sequence: &Sequence, position: usize) -> bool {
    if facts.looks_ahead {
        return other == sequence;
    }
    let beginning =
        |s: &Sequence| s.ids.get(..=position).zip(s.segments.get(..=position)).map(|(a, b)| (a.to_vec(), b.to_vec()));
    beginning(other).is_some_and(|found| Some(found) == beginning(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::PromptExample;

    fn facts(reads: Reads) -> NetworkFacts {
        NetworkFacts {
            architecture: "test",
            vocab_size: 100,
            max_tokens: 100,
            segments: 2,
            pad_token_id: 0,
            layers: 1,
            width: 1,
            reads,
            looks_ahead: reads == Reads::Mask,
            mup_base_width: None,
        }
    }

    fn example(ids: &[i64], mask_position: usize, answers: &[&[i64]]) -> AnsweredExample {
        let prompt = PromptExample { input_ids: ids.to_vec(), segment_ids: vec![0; ids.len()], mask_position };
        AnsweredExample { prompt, answers: answers.iter().map(|a| a.to_vec()).collect() }
    }

    fn ids(row: &Row) -> Vec<Vec<i64>> {
        row.sequences.iter().map(|s| s.ids.clone()).collect()
    }

    fn terms(row: &Row) -> Vec<(usize, usize, usize, i64, f64)> {
        row.terms.iter().map(|t| (t.output, t.sequence, t.position, t.token, t.weight)).collect()
    }

    #[test]
    fn a_causal_model_reads_common_beginnings_once() {
        let causal = facts(Reads::LastToken);
        // 7 alone, 8 9, 8 9 5: the last one's sequence serves all.
        let found = rows(&causal, &example(&[1, 2], 1, &[&[7], &[8, 9], &[8, 9, 5]]), Combination::Each);
        assert_eq!(ids(&found[0]), [[1, 2, 8, 9]]);
        let expected = [
            (0, 0, 1, 7, 1.0),
            (1, 0, 1, 8, 1.0),
            (1, 0, 2, 9, 1.0),
            (2, 0, 1, 8, 1.0),
            (2, 0, 2, 9, 1.0),
            (2, 0, 3, 5, 1.0),
        ];
        assert_eq!(terms(&found[0]), expected);
        // The common first token cancels.
        let found = rows(&causal, &example(&[1, 2], 1, &[&[8, 9], &[8, 5]]), Combination::Difference);
        assert_eq!(ids(&found[0]), [[1, 2, 8]]);
        assert_eq!(terms(&found[0]), [(0, 0, 2, 5, 1.0), (0, 0, 2, 9, -1.0)]);
        // What both read behind the prompt is read in one sequence.
        let found = rows(&causal, &example(&[1, 2], 1, &[&[6, 9], &[8, 5]]), Combination::Difference);
        assert_eq!(ids(&found[0]), [[1, 2, 6], [1, 2, 8]]);
        let expected = [(0, 0, 1, 6, -1.0), (0, 0, 1, 8, 1.0), (0, 0, 2, 9, -1.0), (0, 1, 2, 5, 1.0)];
        assert_eq!(terms(&found[0]), expected);
        let found = rows(&causal, &example(&[1, 2], 1, &[&[6, 9], &[8]]), Combination::Apart);
        assert_eq!(found.iter().map(ids).collect::<Vec<_>>(), [[vec![1, 2, 6]], [vec![1, 2]]]);
        assert_eq!(terms(&found[0]), [(0, 0, 1, 6, 1.0), (0, 0, 2, 9, 1.0)]);
    }

    #[test]
    fn states_that_depend_on_what_follows_are_not_shared() {
        let ahead = NetworkFacts { looks_ahead: true, ..facts(Reads::LastToken) };
        let found = rows(&ahead, &example(&[1, 2], 1, &[&[7], &[8, 9]]), Combination::Each);
        assert_eq!(ids(&found[0]), [vec![1, 2], vec![1, 2, 8]]);
    }

    #[test]
    fn a_masked_model_repeats_its_mask() {
        let masked = facts(Reads::Mask);
        let found = rows(&masked, &example(&[1, 3, 2], 1, &[&[7, 8], &[7, 9], &[6]]), Combination::Each);
        assert_eq!(ids(&found[0]), [vec![1, 3, 3, 2], vec![1, 3, 2]]);
        let expected = [(0, 0, 1, 7, 1.0), (0, 0, 2, 8, 1.0), (1, 0, 1, 7, 1.0), (1, 0, 2, 9, 1.0), (2, 1, 1, 6, 1.0)];
        assert_eq!(terms(&found[0]), expected);
        let found = rows(&masked, &example(&[1, 3, 2], 1, &[&[7, 8], &[7, 9]]), Combination::Difference);
        assert_eq!(terms(&found[0]), [(0, 0, 2, 8, -1.0), (0, 0, 2, 9, 1.0)]);
    }
}
