//! Rows of the keys' bias that softmax does not see, and rows of the keys in fused maps.

use super::*;

fn attention(projections: Projections, turned: Option<i64>) -> Attention {
    let norm = Norm::rms(1e-6);
    Attention {
        norms: Around::before(norm),
        heads: 4,
        kv_heads: 2,
        head_size: 8,
        projections,
        biased: true,
        output_biased: false,
        scale: 1.0,
        rotary: turned.map(|width| Rotary::plain(width, 1e4)),
        window: None,
        cap: None,
        rounding: Rounding::None,
        query_key_norm: None,
    }
}

fn only(rows: Range<i64>) -> Vec<Range<i64>> {
    std::iter::once(rows).collect()
}

#[test]
fn keys_that_softmax_does_not_see_are_those_without_a_position() {
    let plain = attention(Projections::Separate, None);
    assert_eq!(plain.unseen_key_rows(false), only(0..16));
    assert_eq!(plain.unseen_key_rows(true), []);
    let turned = attention(Projections::Separate, Some(8));
    assert_eq!(turned.unseen_key_rows(false), []);
    let partly = attention(Projections::Separate, Some(2));
    assert_eq!(partly.unseen_key_rows(false), [2..8, 10..16]);
    let capped = Attention { cap: Some(50.0), ..plain.clone() };
    assert_eq!(capped.unseen_key_rows(false), []);
    let norm = Norm::rms(1e-6);
    let normed = Attention { query_key_norm: Some((norm, Span::All)), ..plain };
    assert_eq!(normed.unseen_key_rows(false), []);
}

#[test]
fn keys_lie_where_their_map_has_them() {
    let in_map = |projections, turned| -> Vec<Range<i64>> {
        let attention = Attention { kv_heads: 4, ..attention(projections, turned) };
        let unseen = attention.unseen_key_rows(false).into_iter();
        unseen.flat_map(|rows| attention.rows_in_map(rows)).collect()
    };
    assert_eq!(in_map(Projections::Blocks, None), only(32..64));
    assert_eq!(in_map(Projections::Heads, None), [8..16, 32..40, 56..64, 80..88]);
    assert_eq!(in_map(Projections::Heads, Some(2)), [10..16, 34..40, 58..64, 82..88]);
}
