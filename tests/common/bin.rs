//! `pytorch_model.bin` as `torch.save` writes it (a zip archive, pickle protocol 2), made without PyTorch; also archives that
//! no `torch.save` would write.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Layout of tensors in their storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storages {
    /// Each in its own storage, row by row.
    Own,
    /// Each matrix in its own storage, column by column, as the strides say.
    Transposed,
    /// All tensors of one element type in one storage, one after another with gaps.
    Shared,
}

/// Writes a state dictionary.
pub fn write_state_dict(path: &Path, tensors: &BTreeMap<String, Tensor>, storages: Storages) {
    let (program, data) = state_dict(tensors, storages);
    fs::write(path, archive(&program, &data)).expect("a file in a temporary directory");
}

/// The zip archive of a pickle program and its storages.
pub fn archive(program: &[u8], storages: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut entry = |name: String, bytes: &[u8]| {
        zip.start_file(name, options).expect("a new entry");
        zip.write_all(bytes).expect("memory");
    };
    entry("archive/data.pkl".into(), program);
    for (key, bytes) in storages {
        entry(format!("archive/data/{key}"), bytes);
    }
    entry("archive/version".into(), b"3\n");
    zip.finish().expect("memory").into_inner()
}

/// The pickle program of a state dictionary, with its storages by key.
pub fn state_dict(tensors: &BTreeMap<String, Tensor>, storages: Storages) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let mut program = Program(b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(".to_vec());
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut rebuild_known = false;
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let shape = tensor.size();
        let mut stride: Vec<i64> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        let mut laid_out = tensor.contiguous();
        if storages == Storages::Transposed && shape.len() == 2 {
            laid_out = tensor.tr().contiguous();
            stride = vec![1, shape[0]];
        }
        let (class, width) = storage_class(tensor.kind());
        let key = if storages == Storages::Shared { class.to_owned() } else { i.to_string() };
        let storage = data.entry(key.clone()).or_default();
        if storages == Storages::Shared {
            // A gap of three elements that no tensor may read.
            storage.extend(std::iter::repeat_n(0xff, 3 * width));
        }
        let offset = storage.len() / width;
        storage.extend(raw(&laid_out));

        program.text(name);
        // The function's name is written once and fetched from the memo afterwards, as Python's pickler does.
        program.0.extend(if rebuild_known {
            b"h\x02".to_vec()
        } else {
            b"ctorch._utils\n_rebuild_tensor_v2\nq\x02".to_vec()
        });
        rebuild_known = true;
        program.0.extend(b"((");
        program.text("storage");
        program.0.extend(format!("ctorch\n{class}\n").bytes());
        program.text(&key);
        program.text("cpu");
        program.integer(tensor.numel() as i64);
        program.0.extend(b"tQ");
        program.integer(offset as i64);
        program.integers(&shape);
        program.integers(&stride);
        program.0.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    // Python sets the dictionary's `_metadata` attribute last.
    program.0.extend(b"u}");
    program.text("_metadata");
    program.0.extend(b"h\x00)Rsb.");
    (program.0, data)
}

/// A pickle program under construction.
struct Program(Vec<u8>);

impl Program {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
    }

    /// In the shortest of Python's forms.
    fn integer(&mut self, n: i64) {
        if let Ok(byte) = u8::try_from(n) {
            self.0.extend([b'K', byte]);
        } else if let Ok(short) = u16::try_from(n) {
            self.0.push(b'M');
            self.0.extend(short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(n) {
            self.0.push(b'J');
            self.0.extend(int.to_le_bytes());
        } else {
            self.0.extend([0x8a, 8]);
            self.0.extend(n.to_le_bytes());
        }
    }

    fn integers(&mut self, numbers: &[i64]) {
        self.0.push(b'(');
        for n in numbers {
            self.integer(*n);
        }
        self.0.push(b't');
    }
}

/// The pickle program of one tensor `name` of one storage `0` of floats, with any offset, shape and strides.
pub fn one_tensor(name: &str, offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    let mut program = Program(b"\x80\x02}".to_vec());
    program.text(name);
    program.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    program.text("storage");
    program.0.extend(b"ctorch\nFloatStorage\n");
    program.text("0");
    program.text("cpu");
    program.integer(1);
    program.0.extend(b"tQ");
    program.integer(offset);
    program.integers(shape);
    program.integers(stride);
    program.0.extend(b"\x89NtRs.");
    program.0
}

fn storage_class(kind: Kind) -> (&'static str, usize) {
    match kind {
        Kind::Float => ("FloatStorage", 4),
        Kind::Double => ("DoubleStorage", 8),
        Kind::Half => ("HalfStorage", 2),
        Kind::BFloat16 => ("BFloat16Storage", 2),
        Kind::Int64 => ("LongStorage", 8),
        other => panic!("no test stores {other:?}"),
    }
}

/// The bytes of a contiguous tensor in memory.
fn raw(tensor: &Tensor) -> Vec<u8> {
    let (_, width) = storage_class(tensor.kind());
    let mut bytes = vec![0; tensor.numel() * width];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
