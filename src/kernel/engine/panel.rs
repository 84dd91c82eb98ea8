//! Panels: recorded examples that are multiplied together, in batches.

use tch::{Kind, Tensor};

use super::shortage::attempt;
use super::symmetry::mirrored;
use crate::jacobian::{Ghost, Loops, PackedFactors, Param, Recorded, RowSet, StripFactors, Tile};
use crate::products::{Gathered, Packs, Parts, Tokens};

/// Gradients of some examples in factored form. Rows are ordered by batch, and within a batch as in [`Recorded::places`].
pub(super) struct Panel {
    batches: Vec<Recorded>,
    /// Row numbers `i·C + c` in the whole matrix.
    places: Vec<i64>,
    /// Examples, by batch.
    examples: Vec<usize>,
}

impl Panel {
    /// A panel of one batch.
    pub fn of(recorded: Recorded, examples: &[usize]) -> Self {
        let mut panel = Self { batches: Vec::new(), places: Vec::new(), examples: Vec::new() };
        panel.push(recorded, examples);
        panel
    }

    /// Adds a batch.
    pub fn push(&mut self, recorded: Recorded, examples: &[usize]) {
        self.places.extend(recorded.places(examples));
        self.examples.extend(examples);
        self.batches.push(recorded);
    }

    pub fn shallow_clone(&self) -> Self {
        Self {
            batches: self.batches.iter().map(Recorded::shallow_clone).collect(),
            places: self.places.clone(),
            examples: self.examples.clone(),
        }
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Number of rows.
    pub fn rows(&self) -> i64 {
        self.places.len() as i64
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Bytes of the factors.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Recorded::bytes).sum()
    }

    /// Row numbers in the whole matrix.
    pub fn places(&self) -> Tensor {
        Tensor::from_slice(&self.places)
    }

    /// The example of a row.
    pub fn example(&self, row: usize) -> i64 {
        self.places[row] / self.batches[0].outputs().size()[1]
    }

    /// Some batch, for what all have in common.
    pub fn first(&self) -> &Recorded {
        &self.batches[0]
    }

    /// Copies the outputs to the examples' rows of `target` \[N, C\].
    pub fn put_outputs(&self, target: &mut Tensor) {
        let outputs: Vec<&Tensor> = self.batches.iter().map(Recorded::outputs).collect();
        let index = Tensor::from_slice(&self.examples.iter().map(|i| *i as i64).collect::<Vec<_>>());
        let _ = target.index_copy_(0, &index, &Tensor::cat(&outputs, 0).to_device(target.device()));
    }

    /// Whether any example has a gradient for a parameter.
    pub fn reaches(&self, p: Param) -> bool {
        self.batches.iter().any(|r| r.reaches(p))
    }

    /// Rows that any example touches.
    pub fn touched(&self, p: Param) -> RowSet {
        let first = self.first().touched(p).shallow_clone();
        self.batches[1..].iter().fold(first, |set, batch| set.union(batch.touched(p)))
    }

    /// Tokens of all examples together, including padding, and of the longest, if a parameter's gradients are single sums of
    /// outer products.
    pub fn outer_tokens(&self, p: Param) -> Option<(i64, i64)> {
        self.batches.iter().try_fold((0, 0), |(all, longest), r| {
            let tokens = r.outer_tokens(p)?;
            Some((all + tokens * r.batch(), longest.max(tokens)))
        })
    }

    /// The factors of a parameter, packed for units for bf16; `None` if these cannot write its gradients in all batches, or would take
    /// longer than vectors.
    pub fn packed(&self, p: Param, parts: Parts, packs: &mut Packs) -> Option<Vec<PackedFactors>> {
        if !self.batches.iter().all(|batch| batch.is_outer_by_units(p, parts))
            || !PackedFactors::gain(parts, self.batches.iter().flat_map(|batch| batch.outer_sums(p)))
        {
            return None;
        }
        self.batches.iter().map(|batch| PackedFactors::new(batch, p, parts, packs)).collect()
    }

    /// Packs the factors of a parameter in strips of single precision; `false` if that gains nothing for some batch, or there is no
    /// memory for them.
    pub fn pack_strips(&self, p: Param, out: &mut StripFactors) -> bool {
        let gains = self.batches.iter().all(|batch| batch.is_outer_in_strips(p))
            && attempt(|| out.begin(self.batches.iter(), p)).is_some();
        self.batches.iter().filter(|_| gains).for_each(|batch| out.push(batch, p));
        gains
    }

    /// Writes the gradients' entries in a tile from packed factors, in the element type of `out`: single precision, or rounded to
    /// bf16.
    pub fn write_packed(&self, (packed, packs): (&[PackedFactors], &Packs), tile: &Tile, out: &Tensor) {
        let mut at = 0;
        for (batch, packed) in self.batches.iter().zip(packed) {
            packed.write(packs, tile, &out.narrow(0, at, batch.rows()));
            at += batch.rows();
        }
    }

    /// Writes the gradients' entries in a tile from packed factors, in the layout of matrix units.
    pub fn gather(&self, (packed, packs): (&[PackedFactors], &Packs), tile: &Tile, out: &mut Gathered) {
        let mut at = 0;
        for (batch, packed) in self.batches.iter().zip(packed) {
            packed.gather(packs, tile, at, out);
            at += batch.rows() as usize;
        }
    }

    /// Writes the gradients' entries in a tile to `out` \[rows, entries\].
    pub fn write(&self, loops: Loops, p: Param, set: &RowSet, tile: &Tile, out: &Tensor) {
        let mut at = 0;
        for batch in &self.batches {
            batch.write_by(loops, p, set, tile, &out.narrow(0, at, batch.rows()));
            at += batch.rows();
        }
    }

    /// Packs the factors of a parameter by tokens for matrix units.
    pub fn pack_tokens(&self, p: Param, parts: Parts, out: &mut Tokens) {
        let (height, width) = self.first().shape(p);
        out.begin(parts, (width as usize, height as usize), self.first().count() as usize);
        self.batches.iter().for_each(|batch| batch.push_tokens(p, out));
    }

    /// Inner products \[rows, rows\] with another panel's gradients in double precision, without materialized gradients, or with
    /// their signs on either side; see [`Ghost::products`].
    pub fn ghost(&self, other: &Self, p: Param, signs: (bool, bool), parts: Option<Parts>) -> Tensor {
        let own = self.ghosts(p, signs.0);
        let columns = other.batches.iter().map(|batch| {
            let other = Ghost::new(batch, p, signs.1);
            let blocks = own.iter().map(|own| own.products(&other, parts).to_kind(Kind::Double));
            Tensor::cat(&blocks.collect::<Vec<_>>(), 0)
        });
        Tensor::cat(&columns.collect::<Vec<_>>(), 1)
    }

    /// The same with this panel's own gradients, or of their signs: every pair of batches is multiplied once.
    pub fn ghost_of_itself(&self, p: Param, signs: bool, parts: Option<Parts>) -> Tensor {
        let own = self.ghosts(p, signs);
        let mut upper = Vec::with_capacity(own.len());
        let mut at = 0;
        for (i, left) in own.iter().enumerate() {
            let blocks = own[i..].iter().map(|right| left.products(right, parts).to_kind(Kind::Double));
            let row = Tensor::cat(&blocks.collect::<Vec<_>>(), 1);
            upper.push(row.constant_pad_nd([at, 0]));
            at += row.size()[0];
        }
        mirrored(&Tensor::cat(&upper, 0))
    }

    fn ghosts(&self, p: Param, signs: bool) -> Vec<Ghost> {
        self.batches.iter().map(|batch| Ghost::new(batch, p, signs)).collect()
    }
}

#[cfg(test)]
mod tests {
    use kernelview_loops::strips;
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::jacobian::record;
    use crate::lm::{Architecture, MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};

    /// Units write the gradients of a short batch among long ones, and not those of a long one among short ones. Fails for: the shortest or
    /// the longest batch in place of their mean.
    #[test]
    fn units_write_what_gains_on_the_whole() {
        if !crate::products::splits(Parts::Two) {
            eprintln!("skipped: this processor has no matrix units for bf16, or they are switched off");
            return;
        }
        let model = MaskedLm::new(random::tiny(Architecture::Bert, 60));
        let parameters = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
        let packed = |lengths: [i64; 5]| {
            let prompt = |length: i64| PromptExample {
                input_ids: (5..5 + length).collect(),
                segment_ids: vec![0; length as usize],
                mask_position: 2,
            };
            let prompts = lengths.into_iter().map(prompt).collect();
            let examples = PromptExamples::new(&model, prompts, &[8, 11], OutputMode::Difference, Device::Cpu);
            let examples = examples.expect("valid");
            let mut panel = Panel::of(record(&parameters, &examples, &[0]), &[0]);
            (1..5).for_each(|i| panel.push(record(&parameters, &examples, &[i]), &[i]));
            let weight = parameters.specs().iter().position(|s| s.name.ends_with("intermediate.dense.weight"));
            panel.packed(Param(weight.expect("a weight")), Parts::Two, &mut Packs::default()).is_some()
        };
        assert!(packed([28, 28, 28, 28, 5]) && !packed([28, 5, 5, 5, 5]));
    }

    /// Gradients from factors packed in strips are those from factors in place, bit for bit: of two batches with other numbers of
    /// tokens, two outputs, weights with one use and with several, tile by tile. Fails for: rows in the order of examples, factors of
    /// another batch, a use that replaces the one before.
    #[test]
    fn strips_give_the_gradients_of_factors_in_place() {
        if !strips::gain() {
            eprintln!("skipped: packing in strips gains nothing on this processor");
            return;
        }
        for architecture in [Architecture::Roberta, Architecture::Albert] {
            let shape = random::tiny(architecture, 60);
            let model = MaskedLm::new(ModelConfig { hidden_size: 96, heads: 2, intermediate_size: 160, ..shape });
            let parameters = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
            let prompt = |i: i64| PromptExample {
                input_ids: (0..20 + 2 * (i / 3)).map(|t| 5 + (7 * i + 11 * t) % 50).collect(),
                segment_ids: vec![0; (20 + 2 * (i / 3)) as usize],
                mask_position: 9,
            };
            let prompts = (0..5).map(prompt).collect();
            let examples =
                PromptExamples::new(&model, prompts, &[8, 11], OutputMode::Logits, Device::Cpu).expect("valid");
            let mut panel = Panel::of(record(&parameters, &examples, &[0, 1, 2]), &[0, 1, 2]);
            panel.push(record(&parameters, &examples, &[3, 4]), &[3, 4]);
            let mut packed = StripFactors::default();
            let mut written = 0;
            for p in (0..parameters.len()).map(Param).filter(|p| panel.reaches(*p)) {
                if !panel.pack_strips(p, &mut packed) {
                    continue;
                }
                let ((height, width), set) = (panel.first().shape(p), panel.touched(p));
                for tile in Tile::cover(height, width, 1900) {
                    let [found, expected] = [(); 2]
                        .map(|()| Tensor::full([panel.rows(), tile.entries()], f64::NAN, (Kind::Float, Device::Cpu)));
                    packed.write(&tile, &found);
                    panel.write(Loops::Own, p, &set, &tile, &expected);
                    assert!(found.equal(&expected), "{architecture:?}, {}", parameters.specs()[p.0].name);
                    written += 1;
                }
            }
            assert!(written > 10, "{written} tiles");
        }
    }
}
