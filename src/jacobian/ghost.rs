//! Inner products of gradients through their factors, without materializing either gradient.

use tch::{Kind, Tensor};

use super::parameters::Param;
use super::recorded::Recorded;
use crate::products::{Parts, linear, splits};

/// The factors of a parameter's gradients in one batch, ready for products with those of other batches: converted and, if asked
/// for, replaced by their signs once.
#[derive(Debug)]
pub struct Ghost {
    /// \[B, T, in\].
    x: Tensor,
    /// \[C, B, T, out\].
    g: Tensor,
    signs: bool,
}

impl Ghost {
    /// The factors of a parameter, at least in single precision: sums of products of 16-bit numbers need more digits than these
    /// have.
    ///
    /// # Panics
    /// If the gradients are not a single factor ([`Recorded::outer_tokens`]).
    pub fn new(recorded: &Recorded, p: Param, signs: bool) -> Self {
        let (x, g) = recorded.outer_factors(p).expect("a single outer factor");
        let ready = |t: Tensor| {
            let t = if t.kind() == Kind::BFloat16 { t.to_kind(Kind::Float) } else { t };
            if signs { t.sign() } else { t }
        };
        Self { x: ready(x.shallow_clone()), g: ready(g.transpose(0, 1).contiguous()), signs }
    }

    /// Inner products of these gradients with another batch's: `Σ_{t,u} (x_t·x'_u)(g_t·g'_u)`, as \[C·B, C·B'\], in so many bf16
    /// parts where units multiply them faster. With one token on both sides gradients are single outer products, so that their
    /// signs factor, too.
    ///
    /// # Panics
    /// If signs are asked for with more than one token.
    pub fn products(&self, other: &Self, parts: Option<Parts>) -> Tensor {
        let (x, g, y, h) = (&self.x, &self.g, &other.x, &other.g);
        let (b, t, _) = x.size3().expect("x has three axes");
        let (d, u, _) = y.size3().expect("x has three axes");
        let (count, others) = (g.size()[0], h.size()[0]);
        let one = t.max(u) == 1;
        assert!(one || !(self.signs || other.signs), "signs of sums do not factor");
        let parts = parts.filter(|parts| splits(*parts));
        let flat = |t: &Tensor| t.reshape([-1, t.size()[t.dim() - 1]]);
        let product = |a: &Tensor, b: &Tensor| linear(&flat(a), &flat(b), None, parts);
        let inputs = product(x, y);
        if one {
            let errors = product(g, h).view([count, b, others, d]);
            return (errors * inputs.view([1, b, 1, d])).view([count * b, others * d]);
        }
        let inputs = inputs.view([b, t, d, u]);
        // One output of the left batch at a time bounds the memory.
        let rows = (0..count).map(|c| {
            let columns = (0..others).map(|k| {
                let errors = product(&g.get(c), &h.get(k)).view([b, t, d, u]);
                (errors * &inputs).sum_dim_intlist([1i64, 3].as_slice(), false, x.kind())
            });
            Tensor::cat(&columns.collect::<Vec<_>>(), 1)
        });
        Tensor::cat(&rows.collect::<Vec<_>>(), 0)
    }
}
