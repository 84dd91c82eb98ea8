//! The tap under which a training step runs: tables get gradients in the rows that were read.
//!
//! Autograd's gradient of a table is as large as the table, one for each place that reads it, and the one of the decoder's rows is
//! there while all activations still are. Here the rows that were read are leaves of the graph, and are added up after it is gone;
//! a table of which a run reads a few thousand rows has a gradient, and moments, of a few thousand rows.

use std::collections::HashMap;

use tch::{Device, Tensor};

use crate::jacobian::{Param, Parameters, PlainTap, Tap};

/// A gradient of a parameter.
pub(super) enum Gradient {
    /// Of all entries.
    Whole(Tensor),
    /// Of the rows of a table that were read in this step or an earlier one; that of the others is zero.
    Rows {
        /// Which rows, in the order of their first reading.
        ids: Tensor,
        /// Their gradients \[rows, d\].
        values: Tensor,
    },
}

impl Gradient {
    /// The same of all entries of the parameter.
    pub fn whole(self, parameter: &Tensor) -> Tensor {
        match self {
            Self::Whole(whole) => whole,
            Self::Rows { ids, values } => parameter.detach().zeros_like().index_copy_(0, &ids, &values),
        }
    }
}

/// A plain tap over leaves that remembers which rows of them were read.
pub(super) struct RowTap<'a> {
    plain: PlainTap<'a>,
    reads: Vec<Read>,
}

/// Rows of a table that were read at one place.
struct Read {
    table: Param,
    ids: Tensor,
    /// The rows \[.., d\], a leaf.
    rows: Tensor,
}

impl<'a> RowTap<'a> {
    /// A tap over these values; those that require gradients are trained.
    pub fn new(leaves: &'a Parameters) -> Self {
        Self { plain: PlainTap::new(leaves), reads: Vec::new() }
    }

    /// The rows of a table, which must be trained, as a leaf.
    fn read(&mut self, table: Param, ids: &Tensor) -> Tensor {
        let rows = Tensor::embedding(&self.plain.value(table), ids, -1, false, false).set_requires_grad(true);
        self.reads.push(Read { table, ids: ids.reshape([-1]), rows: rows.shallow_clone() });
        rows
    }

    fn trains(&self, table: Param) -> bool {
        self.plain.parameters().get(table).requires_grad()
    }

    /// Gradients of a loss in the leaves that require them, `None` for the others. Those of tables are in the memory of `tables`,
    /// until the next step.
    pub fn gradients(self, loss: &Tensor, tables: &mut TableGradients) -> Vec<Option<Gradient>> {
        let leaves = self.plain.parameters();
        let trained: Vec<&Tensor> = leaves.values().iter().filter(|v| v.requires_grad()).collect();
        let inputs: Vec<&Tensor> = trained.into_iter().chain(self.reads.iter().map(|read| &read.rows)).collect();
        let mut found = Tensor::run_backward(&[loss], &inputs, false, false).into_iter();
        let mut gradients: Vec<Option<Gradient>> = leaves
            .values()
            .iter()
            .map(|v| if v.requires_grad() { found.next().filter(Tensor::defined).map(Gradient::Whole) } else { None })
            .collect();
        tables.clear();
        for (read, of_rows) in self.reads.iter().zip(found) {
            tables.add(read, &of_rows);
        }
        for (table, rows) in &tables.kept {
            let gradient = &mut gradients[table.0];
            let (ids, values) = rows.gradient();
            *gradient = Some(match gradient.take() {
                // A table may be used as a whole, too.
                Some(Gradient::Whole(mut whole)) => Gradient::Whole(whole.index_add_(0, &ids, &values)),
                _ => Gradient::Rows { ids, values },
            });
        }
        gradients
    }
}

/// Gradients of tables' rows, in memory that is kept from step to step.
#[derive(Default)]
pub(super) struct TableGradients {
    kept: HashMap<Param, Rows>,
}

/// Rows of a table that were ever read.
struct Rows {
    /// In the order of their first reading.
    ids: Vec<i64>,
    /// The place of each.
    places: HashMap<i64, i64>,
    /// Their gradients \[at least as many rows, d\].
    sums: Tensor,
}

impl Rows {
    fn new(of_rows: &Tensor) -> Self {
        let width = of_rows.size()[of_rows.dim() - 1];
        Self {
            ids: Vec::new(),
            places: HashMap::new(),
            sums: of_rows.new_zeros([0, width], (of_rows.kind(), of_rows.device())),
        }
    }

    /// Adds gradients \[.., d\] of these rows.
    fn add(&mut self, ids: &Tensor, of_rows: &Tensor) {
        let places: Vec<i64> = Vec::<i64>::try_from(ids)
            .expect("a flat tensor of integers")
            .into_iter()
            .map(|id| {
                let next = self.ids.len() as i64;
                *self.places.entry(id).or_insert_with(|| {
                    self.ids.push(id);
                    next
                })
            })
            .collect();
        let (rows, room) = (self.ids.len() as i64, self.sums.size()[0]);
        if rows > room {
            self.sums = self.sums.constant_pad_nd([0, 0, 0, rows.max(2 * room) - room]);
        }
        let places = Tensor::from_slice(&places).to_device(self.sums.device());
        let of_rows = of_rows.reshape([-1, self.sums.size()[1]]);
        // In the order of reading: on a CPU one of these adds in parallel, on a GPU the other.
        let _ = if self.sums.device() == Device::Cpu {
            self.sums.index_add_(0, &places, &of_rows)
        } else {
            self.sums.index_put_(&[Some(&places)], &of_rows, true)
        };
    }

    /// Which rows, and their gradients.
    fn gradient(&self) -> (Tensor, Tensor) {
        let ids = Tensor::from_slice(&self.ids).to_device(self.sums.device());
        (ids, self.sums.narrow(0, 0, self.ids.len() as i64))
    }
}

impl TableGradients {
    /// Sets all rows to zero.
    fn clear(&mut self) {
        for rows in self.kept.values_mut() {
            let _ = rows.sums.zero_();
        }
    }

    fn add(&mut self, read: &Read, of_rows: &Tensor) {
        self.kept.entry(read.table).or_insert_with(|| Rows::new(of_rows)).add(&read.ids, of_rows);
    }
}

impl Tap for RowTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        self.plain.linear(x, weight, bias)
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        if self.trains(table) { self.read(table, ids) } else { self.plain.embedding(table, ids) }
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        self.plain.scale_shift(x, weight, bias)
    }

    fn scale_by_one_plus(&mut self, x: &Tensor, weight: Param) -> Tensor {
        self.plain.scale_by_one_plus(x, weight)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        if !self.trains(table) {
            return self.plain.select_rows(h, table, bias, rows);
        }
        let weight = self.read(table, rows);
        self.plain.decode(h, &weight, bias, rows)
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.plain.value(parameter)
    }

    fn joins_texts(&self) -> bool {
        self.plain.joins_texts()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::Kind;

    use super::*;
    use crate::jacobian::{ParameterSpec, Role};

    /// Table, decoder's bias and positions, the last not trained.
    fn leaves() -> Parameters {
        tch::manual_seed(3);
        let spec = |name: &str, shape: &[i64]| ParameterSpec::new(name, shape, Role::Embedding, "all");
        let specs = [spec("table", &[7, 3]), spec("bias", &[7]), spec("positions", &[4, 3])];
        let mut trained = [true, true, false].into_iter();
        let draw = |s: &ParameterSpec| {
            let value = Tensor::randn(s.shape.as_slice(), (Kind::Double, Device::Cpu));
            value.set_requires_grad(trained.next().expect("a flag"))
        };
        let values = specs.iter().map(draw).collect();
        Parameters::new(Arc::from(specs.to_vec()), values)
    }

    /// A loss in which a table is read twice, with tokens that occur several times, decodes some words, and is used as a whole.
    fn loss(tap: &mut dyn Tap, tokens: &[i64], whole: bool) -> Tensor {
        let table = Param(0);
        let ids = Tensor::from_slice(tokens).view([2, -1]);
        let places = Tensor::arange(ids.size()[1], (Kind::Int64, Device::Cpu)).expand_as(&ids);
        let sum =
            tap.embedding(table, &ids) + tap.embedding(Param(2), &places) + tap.embedding(table, &ids.flip([1])).tanh();
        let state = sum.sum_dim_intlist(1i64, false, Kind::Double).tanh();
        let words = tap.select_rows(&state, table, Some(Param(1)), &Tensor::from_slice(&[6i64, 2]));
        let all = if whole {
            tap.linear(&state, table, Some(Param(1))).square().sum(Kind::Double)
        } else {
            state.sum(Kind::Double)
        };
        words.square().sum(Kind::Double) + all
    }

    /// Fails for: a token's second occurrence or a second place that is lost, rows of the step before, a table used as a whole
    /// whose rows are not added, a gradient of what is not trained. Sums in another order: 1e-14.
    #[test]
    fn gradients_are_those_of_plain_autograd() {
        let leaves = leaves();
        let mut tables = TableGradients::default();
        for (tokens, whole) in [([0, 2, 2, 6, 2, 1], false), ([5, 5, 3, 4, 5, 0], true), ([1, 1, 1, 1, 1, 1], false)] {
            let expected = Tensor::run_backward(
                &[loss(&mut PlainTap::new(&leaves), &tokens, whole)],
                &leaves.values()[..2],
                false,
                false,
            );
            let mut tap = RowTap::new(&leaves);
            let value = loss(&mut tap, &tokens, whole);
            let found = tap.gradients(&value, &mut tables);
            assert!(found[2].is_none(), "positions");
            for (found, expected) in found.into_iter().zip(&expected) {
                let found = found.expect("a gradient").whole(expected);
                let off = (found - expected).abs().max().double_value(&[]);
                assert!(off < 1e-14 * expected.abs().max().double_value(&[]).max(1.0), "{tokens:?}: {off:.1e}");
            }
        }
    }

    /// Gradients of many tokens that occur often, added twice by several threads: the same bits. Fails for: rows that are added in an
    /// order of their threads'.
    #[test]
    fn rows_are_added_in_one_order() {
        tch::manual_seed(4);
        let ids = Tensor::randint(5, [4000], (Kind::Int64, Device::Cpu));
        let gradients = Tensor::randn([4000, 64], (Kind::Float, Device::Cpu));
        let before = tch::get_num_threads();
        tch::set_num_threads(4);
        let sums: Vec<Tensor> = (0..5)
            .map(|_| {
                let mut rows = Rows::new(&gradients);
                rows.add(&ids, &gradients);
                rows.gradient().1.copy()
            })
            .collect();
        tch::set_num_threads(before);
        assert!(sums.iter().all(|sum| sum.equal(&sums[0])));
    }
}
