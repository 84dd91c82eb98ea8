//! `jacobian`'s view of examples with answers of one or more tokens: f_c is the sum of the log-probabilities of answer c's
//! tokens after the prompt.
//!
//! Knows no task: the caller supplies each example's answers.

use std::collections::BTreeSet;

use tch::{Device, Tensor};

use super::examples::{AnsweredExample, OutputMode, check_tokens, padded};
use super::model::{LanguageModel, NetworkFacts, Reads, Roundings, TokenBatch};
use super::sequences::{Combination, Row, Sequence, rows};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Tap};

/// Number of vocabulary entries whose logits cost about as much as a token.
const ENTRIES: usize = 1 << 12;

/// Examples with their answers: N examples, C outputs `Σ_j log p(token j of answer c)`, or the difference of two.
///
/// A causal model reads each token at the token in front of it. A masked model reads the prompt with its mask once per token of
/// the answer, and each token at its own mask.
pub struct AnswerExamples<'a> {
    model: &'a dyn LanguageModel,
    /// The rows of each example.
    examples: Vec<Vec<Row>>,
    classes: usize,
    mode: OutputMode,
    separate: bool,
    device: Device,
    roundings: Roundings,
}

impl<'a> AnswerExamples<'a> {
    /// Checks the examples against the model.
    ///
    /// # Errors
    /// Token ids outside the vocabulary; sequences longer than the position table; examples with different numbers of
    /// answers; an answer without tokens; difference mode without exactly two answers.
    pub fn new(
        model: &'a dyn LanguageModel,
        examples: &[AnsweredExample],
        mode: OutputMode,
        device: Device,
    ) -> Result<Self> {
        let facts = model.facts();
        let classes = examples.first().map_or(0, |e| e.answers.len());
        if mode == OutputMode::Difference && classes != 2 {
            return Err(OutputMode::needs_two(classes));
        }
        for (i, example) in examples.iter().enumerate() {
            check(&facts, i, example, classes)?;
        }
        let all = |combination| -> Vec<Vec<Row>> { examples.iter().map(|e| rows(&facts, e, combination)).collect() };
        let (mut found, mut separate) = (Vec::new(), false);
        if mode == OutputMode::Difference {
            found = all(Combination::Difference);
        } else if !examples.is_empty() {
            found = all(Combination::Each);
            // Several outputs of several sequences: no output keeps gradients of sequences that it does not read.
            separate = found.iter().any(|rows| rows.iter().any(|row| row.sequences.len() > 1));
            if separate {
                found = all(Combination::Apart);
            }
        }
        for (i, rows) in found.iter().enumerate() {
            for Sequence { ids, segments } in rows.iter().flat_map(|row| &row.sequences) {
                check_tokens(&facts, i, ids, segments)?;
            }
        }
        Ok(Self { model, examples: found, classes, mode, separate, device, roundings: Roundings::default() })
    }

    /// The same examples with other roundings in a network of double precision.
    #[must_use]
    pub fn rounded(self, roundings: Roundings) -> Self {
        Self { roundings, ..self }
    }

    /// The examples at `indices`, in that order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self { examples: indices.iter().map(|i| self.examples[*i].clone()).collect(), ..*self }
    }
}

fn check(facts: &NetworkFacts, i: usize, example: &AnsweredExample, classes: usize) -> Result<()> {
    let AnsweredExample { prompt, answers } = example;
    let fail = |problem: String| Err(Error::Example { index: i, problem });
    if answers.len() != classes || classes == 0 {
        return fail(format!("it has {} answers, but the first example has {classes}", answers.len()));
    }
    if let Some(c) = answers.iter().position(Vec::is_empty) {
        return fail(format!("answer {c} has no tokens"));
    }
    if let Some(id) = answers.iter().flatten().find(|id| !(0..facts.vocab_size).contains(*id)) {
        let what = format!("an answer of example {i}");
        return Err(Error::NotInVocabulary { what, id: *id, entries: facts.vocab_size });
    }
    let tokens = prompt.input_ids.len();
    let fits = match facts.reads {
        Reads::Mask => prompt.mask_position < tokens,
        Reads::LastToken => prompt.mask_position + 1 == tokens,
    };
    if prompt.segment_ids.len() != tokens || !fits {
        return fail("segment ids or mask position do not fit its tokens".into());
    }
    Ok(())
}

impl Examples for AnswerExamples<'_> {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn outputs(&self) -> usize {
        match self.mode {
            OutputMode::Logits => self.classes,
            OutputMode::Difference => 1,
        }
    }

    fn cost(&self, index: usize) -> usize {
        let rows = &self.examples[index];
        let sequences = || rows.iter().flat_map(|row| &row.sequences);
        let longest = sequences().map(|s| s.ids.len()).max().unwrap_or(0);
        let reads = rows.iter().map(Row::reads).sum::<usize>();
        sequences().count() * longest + reads * (self.model.facts().vocab_size as usize).div_ceil(ENTRIES)
    }

    fn separate(&self) -> bool {
        self.separate
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let rows: Vec<&Row> = indices.iter().flat_map(|i| &self.examples[*i]).collect();
        let outputs = if self.separate { 1 } else { self.outputs() };
        let reading = Reading::new(&rows, outputs);
        let batch = reading.batch(&rows, &self.model.facts(), self.device);
        let batch = TokenBatch { roundings: self.roundings, ..batch };
        let logits = self.model.vocabulary_logits(tap, &batch);
        reading.outputs(&logits).view([indices.len() as i64, self.outputs() as i64])
    }
}

impl Row {
    /// Positions at which the vocabulary's logits are computed.
    fn reads(&self) -> usize {
        self.terms.iter().map(|t| (t.sequence, t.position)).collect::<BTreeSet<_>>().len()
    }
}

/// A position of a sequence with the tokens that are read there.
type Slot = (usize, Vec<i64>);

/// What is read in a batch of R rows, padded to rectangles: K sequences per row, M positions per sequence, Q tokens per
/// position.
struct Reading {
    /// R, K, M, Q and the outputs O per row.
    shape: [usize; 5],
    /// Positions \[R, K, M\].
    positions: Vec<i64>,
    /// Token ids \[R, K, M, Q\].
    tokens: Vec<i64>,
    /// Weights of logits in outputs \[R, O, K, M, Q\].
    weights: Vec<f64>,
    /// Weights of normalizing constants in outputs \[R, O, K, M\]: minus the sum of the tokens'.
    constants: Vec<f64>,
}

impl Reading {
    fn new(rows: &[&Row], outputs: usize) -> Self {
        /// The numbers without repetitions, in order of first occurrence.
        fn distinct<T: PartialEq + Copy>(all: impl Iterator<Item = T>) -> Vec<T> {
            let mut found = Vec::new();
            for one in all {
                if !found.contains(&one) {
                    found.push(one);
                }
            }
            found
        }
        let at = |row: &Row, k: usize| distinct(row.terms.iter().filter(|t| t.sequence == k).map(|t| t.position));
        let read = |row: &Row, k: usize, position: usize| {
            let here = row.terms.iter().filter(|t| (t.sequence, t.position) == (k, position));
            distinct(here.map(|t| t.token))
        };
        let sequences = rows.iter().map(|row| row.sequences.len()).max().unwrap_or(0);
        // By row and sequence: positions with their tokens.
        let slots: Vec<Vec<Vec<Slot>>> = rows
            .iter()
            .map(|row| {
                let of = |k: usize| at(row, k).into_iter().map(|p| (p, read(row, k, p))).collect();
                (0..sequences).map(of).collect()
            })
            .collect();
        let all = || slots.iter().flatten();
        let most = all().map(Vec::len).max().unwrap_or(0).max(1);
        let tokens_each = all().flatten().map(|(_, tokens)| tokens.len()).max().unwrap_or(0).max(1);
        let shape @ [r, k, m, q, o] = [rows.len(), sequences, most, tokens_each, outputs];
        let mut reading = Self {
            shape,
            positions: vec![0; r * k * m],
            tokens: vec![0; r * k * m * q],
            weights: vec![0.0; r * o * k * m * q],
            constants: vec![0.0; r * o * k * m],
        };
        for (i, (row, slots)) in rows.iter().zip(&slots).enumerate() {
            for (s, slots) in slots.iter().enumerate() {
                for (p, (position, tokens)) in slots.iter().enumerate() {
                    let slot = (i * k + s) * m + p;
                    reading.positions[slot] = *position as i64;
                    reading.tokens[slot * q..][..tokens.len()].copy_from_slice(tokens);
                }
            }
            for term in &row.terms {
                let p = slots[term.sequence].iter().position(|(position, _)| *position == term.position);
                let p = p.expect("a slot for every term");
                let place = ((i * o + term.output) * k + term.sequence) * m + p;
                let token = slots[term.sequence][p].1.iter().position(|token| *token == term.token);
                reading.weights[place * q + token.expect("a token for every term")] += term.weight;
                reading.constants[place] -= term.weight;
            }
        }
        reading
    }

    /// The sequences \[R·K, T\]. Rows with fewer than K sequences are padded with their first one, of which nothing is read.
    fn batch(&self, rows: &[&Row], facts: &NetworkFacts, device: Device) -> TokenBatch {
        let [r, k, m, ..] = self.shape;
        let sequences =
            |row: &'_ Row| (0..k).map(|s| row.sequences.get(s).unwrap_or(&row.sequences[0]).clone()).collect();
        let all: Vec<Sequence> = rows.iter().flat_map(|row| -> Vec<Sequence> { sequences(row) }).collect();
        let all: Vec<(&[i64], &[i64])> = all.iter().map(|s| (s.ids.as_slice(), s.segments.as_slice())).collect();
        let positions = Tensor::from_slice(&self.positions).view([(r * k) as i64, m as i64]);
        padded(&all, &positions, facts.pad_token_id, device)
    }

    /// Outputs \[R, O\] from the vocabulary's logits at the positions \[R·K, M, V\].
    fn outputs(&self, logits: &Tensor) -> Tensor {
        let [r, k, m, q, o] = self.shape.map(|n| n as i64);
        let to = (logits.kind(), logits.device());
        let constant = |values: &[f64]| Tensor::from_slice(values).view([r, o, -1]).to_kind(to.0).to_device(to.1);
        let tokens = Tensor::from_slice(&self.tokens).view([r * k, m, q]).to_device(to.1);
        let read = logits.gather(2, &tokens, false).reshape([r, 1, -1]);
        let sum = (read * constant(&self.weights)).sum_dim_intlist(2, false, to.0);
        if self.constants.iter().all(|weight| *weight == 0.0) {
            return sum;
        }
        let constants = logits.logsumexp(2, false).reshape([r, 1, -1]);
        sum + (constants * constant(&self.constants)).sum_dim_intlist(2, false, to.0)
    }
}
