//! Storage types of numbers: plain ones, and blocks of small integers with scales.
//!
//! A block represents exactly defined numbers, computed here as in ggml, in single precision and in the same order:
//! measurements on a quantized model are of these numbers. Source: ggml's `dequantize_row_*` functions.

use tch::{Kind, TchError, Tensor};

/// A storage type.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub name: &'static str,
    /// Numbers per block.
    pub entries: i64,
    /// Bytes per block.
    pub bytes: i64,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    Plain(Kind),
    Q40,
    Q41,
    Q50,
    Q51,
    Q80,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

/// The names of ggml's types, by number.
const NAMES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];

/// The values of the four-bit codes of IQ4_NL and IQ4_XS.
const NON_LINEAR: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// The storage type with this number.
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
        6 => blocks(32, 22, Form::Q50),
        7 => blocks(32, 24, Form::Q51),
        8 => blocks(32, 34, Form::Q80),
        10 => blocks(256, 84, Form::Q2K),
        11 => blocks(256, 110, Form::Q3K),
        12 => blocks(256, 144, Form::Q4K),
        13 => blocks(256, 176, Form::Q5K),
        14 => blocks(256, 210, Form::Q6K),
        20 => blocks(32, 18, Form::Iq4Nl),
        23 => blocks(256, 136, Form::Iq4Xs),
        _ => {
            let name = name.map_or_else(|| format!("type {kind}"), str::to_owned);
            return Err(format!(
                "is stored as {name}, which is not supported; supported are F64, F32, F16, BF16, Q8_0, Q2_K to Q6_K, Q5_1, \
                 Q5_0, Q4_1, Q4_0, IQ4_XS and IQ4_NL"
            ));
        }
    })
}

/// Decodes a tensor's bytes.
pub(super) fn read(layout: Layout, data: &[u8], shape: &[i64]) -> Result<Tensor, TchError> {
    if let Form::Plain(kind) = layout.form {
        return Tensor::f_from_data_size(data, shape, kind);
    }
    let bytes = Tensor::f_from_data_size(data, &[data.len() as i64 / layout.bytes, layout.bytes], Kind::Uint8)?;
    let blocks = Blocks(bytes);
    let numbers = match layout.form {
        Form::Q40 => times(less(float(&blocks.nibbles(2)), 8.0), &blocks.half(0)),
        Form::Q41 => plus(times(float(&blocks.nibbles(4)), &blocks.half(0)), &blocks.half(2)),
        Form::Q50 => times(less(float(&(blocks.nibbles(6) + blocks.fifth_bits(2))), 16.0), &blocks.half(0)),
        Form::Q51 => plus(times(float(&(blocks.nibbles(8) + blocks.fifth_bits(4))), &blocks.half(0)), &blocks.half(2)),
        Form::Q80 => times(blocks.signed(2, 32), &blocks.half(0)),
        Form::Q2K => {
            let scales = blocks.at(0, 16);
            let quants = float(&blocks.quarters(16, 64)).reshape([-1, 16, 16]);
            let (scales, minima) = (float(&low(&scales)) * blocks.half(80), float(&high(&scales)) * -blocks.half(82));
            plus(times(quants, &scales.unsqueeze(-1)), &minima.unsqueeze(-1))
        }
        Form::Q3K => {
            // Subtracts four if the third bit is not set.
            let quants = blocks.quarters(32, 64).reshape([-1, 8, 32]) + blocks.bits(0) * 4;
            let (lower, upper) = (blocks.at(96, 8), blocks.at(104, 4));
            let upper = Tensor::cat(&[1, 4, 16, 64].map(|shift| two_bits(&upper, shift)), 1);
            let scales = Tensor::cat(&[low(&lower), high(&lower)], 1) + upper * 16;
            let scales = (float(&scales) - 32.0) * blocks.half(108);
            times(less(float(&quants), 4.0).reshape([-1, 16, 16]), &scales.unsqueeze(-1))
        }
        Form::Q4K => {
            let (scales, minima) = blocks.six_bits(4);
            let quants = float(&blocks.pairs(16, 128)).reshape([-1, 8, 32]);
            let (scales, minima) = (scales * blocks.half(0), minima * -blocks.half(2));
            plus(times(quants, &scales.unsqueeze(-1)), &minima.unsqueeze(-1))
        }
        Form::Q5K => {
            let (scales, minima) = blocks.six_bits(4);
            let quants = float(&(blocks.pairs(48, 128).reshape([-1, 8, 32]) + blocks.bits(16) * 16));
            let (scales, minima) = (scales * blocks.half(0), minima * -blocks.half(2));
            plus(times(quants, &scales.unsqueeze(-1)), &minima.unsqueeze(-1))
        }
        Form::Q6K => {
            // Two halves of 128 entries: the lower four bits of 64 bytes each, the upper two of 32.
            let lower = blocks.at(0, 128).reshape([-1, 2, 2, 32]);
            let lower = Tensor::cat(&[low(&lower), high(&lower)], 2);
            let quants = less(float(&(lower + blocks.quarters(128, 64) * 16)), 32.0);
            // One scale per sixteen entries.
            let scales = blocks.signed(192, 16) * blocks.half(208);
            times(quants.reshape([-1, 16, 16]), &scales.unsqueeze(-1))
        }
        Form::Iq4Nl => times(non_linear(&blocks.nibbles(2)), &blocks.half(0)),
        Form::Iq4Xs => {
            let upper = Tensor::cat(&[1, 4, 16, 64].map(|shift| two_bits(&blocks.at(2, 2), shift).unsqueeze(-1)), 2);
            let lower = blocks.at(4, 4);
            let lower = Tensor::stack(&[low(&lower), high(&lower)], 2).reshape([-1, 8]);
            let scales = (float(&(lower + upper.reshape([-1, 8]) * 16)) - 32.0) * blocks.half(0);
            let quants = blocks.at(8, 128).reshape([-1, 8, 16]);
            times(non_linear(&Tensor::cat(&[low(&quants), high(&quants)], 2)), &scales.unsqueeze(-1))
        }
        Form::Plain(_) => unreachable!("read above"),
    };
    numbers.f_reshape(shape)
}

/// The bytes of a tensor's blocks, one block per row.
struct Blocks(Tensor);

impl Blocks {
    /// Bytes of every block \[blocks, length\].
    fn at(&self, start: i64, length: i64) -> Tensor {
        self.0.narrow(1, start, length)
    }

    /// Two bytes of half precision \[blocks, 1\].
    fn half(&self, start: i64) -> Tensor {
        float(&self.at(start, 2).contiguous().view_dtype(Kind::Half))
    }

    /// Signed bytes \[blocks, length\].
    fn signed(&self, start: i64, length: i64) -> Tensor {
        float(&self.at(start, length).contiguous().view_dtype(Kind::Int8))
    }

    /// Four-bit codes in sixteen bytes \[blocks, 32\]: the first half of the entries in the lower bits, the second in the
    /// upper ones.
    fn nibbles(&self, start: i64) -> Tensor {
        let bytes = self.at(start, 16);
        Tensor::cat(&[low(&bytes), high(&bytes)], 1)
    }

    /// The same for every 32 bytes \[blocks, length / 32, 2, 32\].
    fn pairs(&self, start: i64, length: i64) -> Tensor {
        let bytes = self.at(start, length).reshape([-1, length / 32, 1, 32]);
        Tensor::cat(&[low(&bytes), high(&bytes)], 2)
    }

    /// Two-bit codes in every 32 bytes, lowest bits first \[blocks, length / 32, 4, 32\].
    fn quarters(&self, start: i64, length: i64) -> Tensor {
        let bytes = self.at(start, length).reshape([-1, length / 32, 1, 32]);
        Tensor::cat(&[1, 4, 16, 64].map(|shift| two_bits(&bytes, shift)), 2)
    }

    /// The bits of 32 bytes, the lowest bits of all bytes first \[blocks, 8, 32\].
    fn bits(&self, start: i64) -> Tensor {
        let bytes = self.at(start, 32).unsqueeze(1);
        Tensor::cat(&[1, 2, 4, 8, 16, 32, 64, 128].map(|shift| bytes.floor_divide_scalar(shift).remainder(2)), 1)
    }

    /// 16 times the bits of four bytes, one per entry \[blocks, 32\].
    fn fifth_bits(&self, start: i64) -> Tensor {
        let bytes = self.at(start, 4).unsqueeze(-1);
        let bits = [1, 2, 4, 8, 16, 32, 64, 128].map(|shift| bytes.floor_divide_scalar(shift).remainder(2));
        Tensor::cat(&bits, 2).reshape([-1, 32]) * 16
    }

    /// Scales and minima of eight groups, six bits each, in twelve bytes \[blocks, 8\]: four of each in the lower six bits
    /// of the first eight bytes, the lower bits of the others in the last four, and their upper bits above the first ones.
    fn six_bits(&self, start: i64) -> (Tensor, Tensor) {
        let [scales, minima, rest] = [0, 4, 8].map(|part| self.at(start + part, 4));
        let first = |t: &Tensor| t.remainder(64);
        let second = |lower: Tensor, t: &Tensor| lower + t.floor_divide_scalar(64) * 16;
        let both = |t: &Tensor, lower: Tensor| float(&Tensor::cat(&[first(t), second(lower, t)], 1));
        (both(&scales, low(&rest)), both(&minima, high(&rest)))
    }
}

fn float(t: &Tensor) -> Tensor {
    t.to_kind(Kind::Float)
}

// What follows writes to its first argument: a table of embeddings takes long to write to new memory.

fn less(mut t: Tensor, number: f64) -> Tensor {
    t -= number;
    t
}

fn times(mut t: Tensor, factors: &Tensor) -> Tensor {
    t *= factors;
    t
}

fn plus(mut t: Tensor, numbers: &Tensor) -> Tensor {
    t += numbers;
    t
}

/// The lower four bits of bytes.
fn low(t: &Tensor) -> Tensor {
    t.remainder(16)
}

/// The upper four bits of bytes.
fn high(t: &Tensor) -> Tensor {
    t.floor_divide_scalar(16)
}

/// Two bits of bytes, from the one worth `shift`.
fn two_bits(t: &Tensor, shift: i64) -> Tensor {
    t.floor_divide_scalar(shift).remainder(4)
}

/// The values of four-bit codes in nonuniform types.
fn non_linear(quants: &Tensor) -> Tensor {
    Tensor::from_slice(&NON_LINEAR).take(&quants.to_kind(Kind::Int64))
}
