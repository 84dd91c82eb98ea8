//! Writes a tuple of tensors in the layout of `torch.save`, loadable with `weights_only=True`.

use std::io::{Cursor, Write as _};

use tch::{Kind, Tensor};
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// PyTorch's alignment of storages in bytes, for memory mapping.
const ALIGNMENT: u16 = 64;

/// The bytes of a file with a tuple of tensors in double or single precision or 64-bit integers.
pub(crate) fn tuple(tensors: &[&Tensor]) -> Vec<u8> {
    archive(tensors).expect("writing to memory")
}

fn archive(tensors: &[&Tensor]) -> ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(false);
    let mut entry = |name: &str, bytes: &[u8]| -> ZipResult<()> {
        let large = u32::try_from(bytes.len()).is_err();
        zip.start_file(format!("archive/{name}"), stored.large_file(large).with_alignment(ALIGNMENT))?;
        Ok(zip.write_all(bytes)?)
    };
    entry("data.pkl", &program(tensors))?;
    entry("byteorder", b"little")?;
    for (key, tensor) in tensors.iter().enumerate() {
        entry(&format!("data/{key}"), &numbers(tensor))?;
    }
    entry("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// The numbers of a tensor, row by row, little-endian.
fn numbers(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.contiguous().view(-1);
    match tensor.kind() {
        Kind::Double => bytes(&Vec::<f64>::try_from(&flat).expect("doubles"), f64::to_le_bytes),
        Kind::Float => bytes(&Vec::<f32>::try_from(&flat).expect("floats"), f32::to_le_bytes),
        Kind::Int64 => bytes(&Vec::<i64>::try_from(&flat).expect("integers"), i64::to_le_bytes),
        other => unreachable!("tensors of {other:?} are not written"),
    }
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], encode: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|x| encode(*x)).collect()
}

/// The pickle program (protocol 2) that builds the tuple.
fn program(tensors: &[&Tensor]) -> Vec<u8> {
    let mut code = b"\x80\x02(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        let class = match tensor.kind() {
            Kind::Double => "DoubleStorage",
            Kind::Float => "FloatStorage",
            _ => "LongStorage",
        };
        let shape = tensor.size();
        let stride: Vec<i64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        code.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut code, "storage");
        code.extend(format!("ctorch\n{class}\n").bytes());
        text(&mut code, &key.to_string());
        text(&mut code, "cpu");
        integer(&mut code, tensor.numel() as i64);
        code.extend(b"tQK\x00");
        for numbers in [&shape, &stride] {
            code.push(b'(');
            for n in numbers {
                integer(&mut code, *n);
            }
            code.push(b't');
        }
        // It requires no gradient and has no hooks.
        code.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    code.extend(b"t.");
    code
}

fn text(code: &mut Vec<u8>, text: &str) {
    code.push(b'X');
    code.extend((text.len() as u32).to_le_bytes());
    code.extend(text.bytes());
}

fn integer(code: &mut Vec<u8>, n: i64) {
    if let Ok(int) = i32::try_from(n) {
        code.push(b'J');
        code.extend(int.to_le_bytes());
    } else {
        code.extend([0x8a, 8]);
        code.extend(n.to_le_bytes());
    }
}
