//! The forms of stored numbers: plain ones, and blocks of small integers with their scales.
//!
//! A block stands for exactly defined numbers, computed here as ggml does, in single precision and in the same order:
//! what is measured on a quantized model is measured on these numbers. Source: ggml's `dequantize_row_*` functions.

use tch::{Kind, TchError, Tensor};

/// A form of storage.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub name: &'static str,
    /// Numbers in a block.
    pub entries: i64,
    /// Bytes of a block.
    pub bytes: i64,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    Plain(Kind),
    Q40,
    Q41,
    Q80,
    Q6K,
}

/// The names of ggml's types, by number, as far as they are in use.
const NAMES: [&str; 31] = [
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
    "I64", "F64", "IQ1_M", "BF16",
];

/// The form of a type's number.
pub(super) fn layout(kind: u32) -> Result<Layout, String> {
    let name = NAMES.get(kind as usize).copied();
    let blocks = |entries, bytes, form| Layout { name: name.unwrap_or("an unknown type"), entries, bytes, form };
    let plain = |kind: Kind| blocks(1, kind.elt_size_in_bytes() as i64, Form::Plain(kind));
    Ok(match kind {
        0 => plain(Kind::Float),
        1 => plain(Kind::Half),
        28 => plain(Kind::Double),
        30 => plain(Kind::BFloat16),
        2 => blocks(32, 18, Form::Q40),
        3 => blocks(32, 20, Form::Q41),
        8 => blocks(32, 34, Form::Q80),
        14 => blocks(256, 210, Form::Q6K),
        _ => {
            let name = name.map_or_else(|| format!("type {kind}"), str::to_owned);
            return Err(format!(
                "is stored as {name}, which is not supported; supported are F64, F32, F16, BF16, Q8_0, Q6_K, Q4_1 and Q4_0"
            ));
        }
    })
}

/// The numbers of a tensor's bytes.
pub(super) fn read(layout: Layout, data: &[u8], shape: &[i64]) -> Result<Tensor, TchError> {
    if let Form::Plain(kind) = layout.form {
        return Tensor::f_from_data_size(data, shape, kind);
    }
    let blocks = Tensor::f_from_data_size(data, &[data.len() as i64 / layout.bytes, layout.bytes], Kind::Uint8)?;
    let at = |start: i64, length: i64| blocks.narrow(1, start, length);
    // Two bytes of half precision, [blocks, 1].
    let scale = |start: i64| at(start, 2).contiguous().view_dtype(Kind::Half).to_kind(Kind::Float);
    let signed = |t: Tensor| t.contiguous().view_dtype(Kind::Int8).to_kind(Kind::Float);
    let low = |t: &Tensor| t.remainder(16);
    let high = |t: &Tensor| t.floor_divide_scalar(16);
    // The first half of a block's entries in the lower four bits, the second in the upper ones.
    let nibbles = |start: i64| Tensor::cat(&[low(&at(start, 16)), high(&at(start, 16))], 1).to_kind(Kind::Float);
    let numbers = match layout.form {
        Form::Q40 => (nibbles(2) - 8.0) * scale(0),
        Form::Q41 => nibbles(4) * scale(0) + scale(2),
        Form::Q80 => signed(at(2, 32)) * scale(0),
        Form::Q6K => {
            // Two halves of 128 entries, each four quarters: four lower bits of 64 bytes, two upper bits of 32 bytes.
            let lower = at(0, 128).reshape([-1, 2, 2, 32]);
            let lower = Tensor::cat(&[low(&lower), high(&lower)], 2);
            let upper = at(128, 64).reshape([-1, 2, 1, 32]);
            let quarter = |shift: i64| upper.floor_divide_scalar(shift).remainder(4);
            let upper = Tensor::cat(&[quarter(1), quarter(4), quarter(16), quarter(64)], 2);
            let quants = (lower + upper * 16).to_kind(Kind::Float) - 32.0;
            // A scale for every sixteen entries.
            let scales = signed(at(192, 16)) * scale(208);
            quants.reshape([-1, 16, 16]) * scales.unsqueeze(-1)
        }
        Form::Plain(_) => unreachable!("read above"),
    };
    numbers.f_reshape(shape)
}
