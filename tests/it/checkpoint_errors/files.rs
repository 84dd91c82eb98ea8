//! Files that are damaged, old or malicious.

use super::*;

#[test]
fn damaged_safetensors_and_indices_are_refused() {
    let whole = Bad::new().bytes();
    let cut = whole.len() - 1;
    Bad::new().write("model.safetensors", &whole[..cut]).is_refused_with(&format!(
        "/model.safetensors: has {cut} of {} bytes (incomplete metadata, file not fully covered): an interrupted download; \
         download it again",
        whole.len()
    ));
    for (length, reason) in [(0, "header too small"), (100, "invalid header length")] {
        Bad::new().write("model.safetensors", &whole[..length]).is_refused_with(&format!(
            "/model.safetensors: not a complete safetensors file of {length} bytes ({reason}); download it again"
        ));
    }
    let elsewhere = |name: &str| format!("shard `{name}` is outside the model directory");
    for (index, message) in [
        ("{", "not a JSON document: EOF while parsing an object at line 1 column 1"),
        ("{}", "the object `weight_map` (tensor name → shard file) is missing"),
        (r#"{"weight_map": {}}"#, "`weight_map` names no shard"),
        (r#"{"weight_map": {"a": 3}}"#, "`weight_map` gives 3 for tensor `a`, expected the name of a file"),
        (r#"{"weight_map": {"a": "s-1.safetensors"}}"#, "shard `s-1.safetensors` is missing; download it too"),
        (r#"{"weight_map": {"a": "../model.safetensors"}}"#, &elsewhere("../model.safetensors")),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, &elsewhere("/etc/passwd")),
        (r#"{"weight_map": {"a": ".."}}"#, &elsewhere("..")),
    ] {
        let name = "model.safetensors.index.json";
        let bad = Bad::new().remove("model.safetensors").write(name, index);
        bad.is_refused_with(&format!("/{name}: {message}"));
    }
}

#[test]
fn damaged_or_old_pytorch_files_are_refused() {
    let refused = |bad: Bad, message: &str| bad.is_refused_with(&format!("/pytorch_model.bin: {message}"));
    let (program, storages) = state_dict(&Bad::new().tensors(), Storages::Own);
    let whole = archive(&program, &storages);
    let cut =
        "not a complete PyTorch archive of 1000 bytes (invalid Zip archive: Could not find EOCD); download it again";
    refused(Bad::new().bin(&whole[..1000]), cut);
    // The beginning of files from PyTorch before 1.6: a pickled magic number and version.
    let old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".as_slice();
    refused(
        Bad::new().bin([old, &[0; 100]].concat()),
        "a file from before PyTorch 1.6 that cannot be read: pickle instruction 0x00 is not used for saved tensors; save them with torch.save's default settings, or as model.safetensors",
    );
    refused(
        Bad::new().bin([b'x'; 100]),
        "not a PyTorch archive: damaged, or from another program; save the model again, or convert it to model.safetensors",
    );
    let mut lost = storages.clone();
    lost.remove("7");
    refused(Bad::new().bin(archive(&program, &lost)), "entry archive/data/7: specified file not found in archive");
    let mut short = storages;
    short.get_mut("7").expect("a storage").pop();
    refused(
        Bad::new().bin(archive(&program, &short)),
        "tensor `bert.encoder.layer.0.attention.output.dense.bias`: shape [16] needs element 15, but its storage holds \
         15: the file is truncated",
    );
    let other = "the pickled value is not a dictionary of tensors; save only the model's state dictionary";
    for program in [&b"\x80\x02]."[..], b"\x80\x02}.", b"\x80\x02K\x01."] {
        refused(Bad::new().pickle(program), other);
    }
    refused(Bad::new().pickle(b"\x80\x02}"), "archive/data.pkl: the program ends too early");
    refused(
        Bad::new().pickle(b"\x80\x04\x95."),
        "archive/data.pkl: pickle instruction 0x95 is not used for saved tensors; save them with torch.save's default settings, or as model.safetensors",
    );
}

/// Fails for: a pickle reader that calls what a program names. The command would leave a file behind.
#[test]
fn a_pickle_that_runs_a_command_is_refused_and_does_not_run_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let marker = directory.path().join("was-here");
    let command = format!("touch {}", marker.display());
    for module in ["os", "posix"] {
        let length = (command.len() as u32).to_le_bytes();
        let call = format!("c{module}\nsystem\n(X").into_bytes();
        let program = [b"\x80\x02".as_slice(), &call, &length, command.as_bytes(), b"tR."].concat();
        Bad::new().pickle(&program).is_refused_with(&format!(
            "/pytorch_model.bin: archive/data.pkl: it calls `{module}.system`, which saved tensors do not need: refused"
        ));
        assert!(!marker.exists(), "the command ran");
    }
}

/// Programs of a few bytes that would fill the memory or exhaust the call stack of a trusting reader.
#[test]
fn pickles_that_grow_without_bound_are_refused() {
    let refused = |program: &[u8], message: &str| {
        Bad::new().pickle(program).is_refused_with(&format!("/pytorch_model.bin: archive/data.pkl: {message}"));
    };
    let deep = "values are nested more deeply than in saved tensors";
    refused(&[b"\x80\x02)".as_slice(), &b"\x85".repeat(1_000_000), b"."].concat(), deep);
    // Lists in lists: 1000 empty ones, each appended to the one before.
    refused(&[[b']'; 1000].as_slice(), &[b'a'; 999], b"."].concat(), deep);
    // A tuple of 100 copies of a tuple of 100 copies of …
    let level = [b"(".as_slice(), &b"h\x00".repeat(100), b"tq\x00"].concat().repeat(8);
    refused(&[b"\x80\x02)q\x00", level.as_slice(), b"."].concat(), "it copies more values than saved tensors need");
}

#[test]
fn strides_that_describe_no_tensor_are_refused() {
    let most = i64::MAX;
    for (offset, shape, stride) in [
        (-1, vec![2], vec![1]),
        (0, vec![-2], vec![1]),
        (0, vec![2], vec![-1]),
        (0, vec![2], vec![]),
        (0, vec![], vec![1]),
        (0, vec![most, 2], vec![most, 1]),
        // Ten numbers that represent ten thousand: with more zeros they would fill the memory.
        (0, vec![100, 100], vec![0, 0]),
    ] {
        Bad::new().pickle(&one_tensor("x", offset, &shape, &stride)).is_refused_with(&format!(
            "/pytorch_model.bin: tensor `x`: shape {shape:?} with strides {stride:?} from element {offset} is not a valid tensor"
        ));
    }
    for (offset, shape, stride, last) in [(0, [5, 3], [3, 1], 14), (8, [1, 3], [3, 1], 10), (0, [2, 2], [10, 1], 11)] {
        Bad::new().pickle(&one_tensor("x", offset, &shape, &stride)).is_refused_with(&format!(
            "/pytorch_model.bin: tensor `x`: shape {shape:?} needs element {last}, but its storage holds 10: the file is \
             truncated"
        ));
    }
    // The whole storage and an empty tensor are valid; only the rest of the model is missing.
    for (shape, stride) in [([5, 2], [2, 1]), ([0, 7], [7, 1])] {
        let message = Bad::new().pickle(&one_tensor("x", 0, &shape, &stride)).refused();
        assert!(message.ends_with("among its 1 tensors, such as x"), "{message}");
    }
}
