//! Distances between tokens as rows of a table: MPNet's buckets (T5's) and DeBERTa's.
//!
//! Both are defined with logarithms in single precision, on which a bucket's border may depend; so they are computed here,
//! whatever the network's precision.

use tch::{Kind, Tensor};

use super::parts::Disentangled;

/// Rows for both directions of MPNet's table.
pub(super) const BUCKETS: i64 = 32;
/// Distances from this on share the last row of their direction.
const FURTHEST: f64 = 128.0;

/// MPNet's rows for distances of a query from a key before it: half the rows for each direction, one per distance up to 7,
/// then logarithmic up to 128.
pub(super) fn buckets(distances: &Tensor) -> Tensor {
    let half = BUCKETS / 2;
    let exact = half / 2;
    let behind = distances.lt(0).to_kind(Kind::Int64) * half;
    let n = distances.abs();
    let ratio = (n.clamp(1, i64::MAX).to_kind(Kind::Float) / exact as f64).log() / (FURTHEST / exact as f64).ln();
    let far = ((ratio * exact as f64).to_kind(Kind::Int64) + exact).clamp(0, half - 1);
    behind + n.where_self(&n.lt(exact), &far)
}

/// DeBERTa's table rows for the pairs of tokens in a batch.
pub(super) struct Distances {
    /// First table row used.
    first: i64,
    /// Number of table rows used.
    count: i64,
    /// Row for each query and key, relative to the first \[1 or B, 1, Q, T\].
    index: Tensor,
}

impl Distances {
    /// From distances \[1 or B, Q, T\] in texts of `tokens` tokens.
    pub fn new(parts: &Disentangled, distances: &Tensor, tokens: i64) -> Self {
        let row = |d: &Tensor| (bucketed(parts, d) + parts.span).clamp(0, 2 * parts.span - 1);
        let ends = row(&Tensor::from_slice(&[1 - tokens, tokens - 1]));
        let (first, last) = (ends.int64_value(&[0]), ends.int64_value(&[1]));
        Self { first, count: last - first + 1, index: (row(distances) - first).unsqueeze(1) }
    }

    /// The table rows used, for each of B texts \[B, R\].
    pub fn table_rows(&self, texts: i64) -> Tensor {
        let rows = Tensor::arange_start(self.first, self.first + self.count, (Kind::Int64, self.index.device()));
        rows.expand([texts, -1], false).contiguous()
    }

    /// Products of queries with rows \[B, heads, Q, R\] → \[B, heads, Q, T\].
    pub fn of_queries(&self, products: &Tensor) -> Tensor {
        let size = products.size();
        products.gather(-1, &self.index.expand([size[0], size[1], -1, -1], false), false)
    }

    /// Products of keys with rows \[B, heads, T, R\] → \[B, heads, Q, T\].
    pub fn of_keys(&self, products: &Tensor) -> Tensor {
        let size = products.size();
        let index = self.index.transpose(-2, -1).expand([size[0], size[1], -1, -1], false);
        products.gather(-1, &index, false).transpose(-2, -1)
    }
}

/// Bucketed distances, logarithmic from half the buckets on; an odd function.
fn bucketed(parts: &Disentangled, distances: &Tensor) -> Tensor {
    let Some(buckets) = parts.buckets else { return distances.shallow_clone() };
    let middle = buckets / 2;
    let near = distances.abs().lt(middle);
    let n = distances.abs().clamp(middle.max(1) - 1, i64::MAX).to_kind(Kind::Float);
    let n = n.where_self(&near.logical_not(), &Tensor::from((middle - 1) as f32).to_device(n.device()));
    let furthest = Tensor::from(((parts.furthest - 1) as f64 / middle as f64) as f32).log();
    let far = ((&n / middle as f64).log() / furthest * (middle - 1) as f64).ceil() + middle as f64;
    let far = (far * distances.sign().to_kind(Kind::Float)).to_kind(Kind::Int64);
    distances.where_self(&n.le(middle as f64), &far)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(t: &Tensor) -> Vec<i64> {
        Vec::try_from(t.reshape([-1])).expect("integers")
    }

    #[test]
    fn near_distances_have_rows_of_their_own_and_far_ones_share() {
        let rows = numbers(&buckets(&Tensor::from_slice(&[0i64, 1, 7, 8, 11, 12, 127, 5000, -1, -7, -5000])));
        assert_eq!(rows, [0, 1, 7, 8, 8, 9, 15, 15, 17, 23, 31]);
        let parts = Disentangled {
            span: 8,
            buckets: Some(8),
            furthest: 96,
            query_position: true,
            key_position: true,
            shared: true,
            norm: None,
        };
        let bucket = |n: i64| numbers(&bucketed(&parts, &Tensor::from_slice(&[n, -n])));
        for near in 0..=4 {
            assert_eq!(bucket(near), [near, -near]);
        }
        let mut last = 4;
        for far in 5..96 {
            let [there, back] = bucket(far)[..] else { unreachable!("two numbers") };
            assert_eq!(back, -there);
            assert!(there == last || there == last + 1, "{far}: {there} behind {last}");
            last = there;
        }
        assert_eq!(last, 7);
    }
}
