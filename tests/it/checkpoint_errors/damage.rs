//! Random damage: a result, never a panic.

use super::*;

/// The same cases at every run; a failure prints its own.
fn damage_config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Config::default() }
}

fn with_bytes(whole: &[u8], bytes: &[(usize, u8)]) -> Vec<u8> {
    let mut damaged = whole.to_vec();
    for (at, byte) in bytes {
        damaged[*at] = *byte;
    }
    damaged
}

/// Loads the checkpoint many times, each with random damage to one of its files: whatever the bytes, there is a result. Fails
/// for: a panic, a crash, a hang, a truncated file that loads.
fn survives(bad: &Bad, file: &str, focus: usize) {
    let path = bad.path().join(file);
    let whole = fs::read(&path).expect("a file");
    let length = whole.len();
    let focus = focus.min(length);
    let place = prop_oneof![3 => 0..focus, 1 => 0..length];
    let damage = (prop::collection::vec((place, any::<u8>()), 0..4), prop::option::weighted(0.3, 0..length));
    TestRunner::new(damage_config(600))
        .run(&damage, |(bytes, cut)| {
            let mut damaged = with_bytes(&whole, &bytes);
            damaged.truncate(cut.unwrap_or(length));
            fs::write(&path, &damaged).expect("a file");
            let loaded = MaskedLm::load(bad.path(), Kind::Float, Device::Cpu).is_ok();
            prop_assert!(!loaded || cut.is_none() || file == "config.json", "a file cut at {cut:?} was loaded");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{file}: {e}"));
}

#[test]
fn random_damage_to_any_file_is_an_answer_and_never_a_panic() {
    // Damage is focused on the header of a safetensors file and the configuration, where a byte changes the meaning.
    survives(&Bad::new(), "model.safetensors", 5000);
    survives(&Bad::new(), "config.json", usize::MAX);
    let (program, storages) = state_dict(&Bad::new().tensors(), Storages::Shared);
    // The program is at the beginning of the archive, its directory at the end.
    survives(&Bad::new().bin(archive(&program, &storages)), "pytorch_model.bin", program.len() + 100);
    // The archive's checksums detect most damage to a program; here they are correct, so that the damage reaches the reader.
    let bad = Bad::new().pickle(b"");
    TestRunner::new(damage_config(1200))
        .run(&prop::collection::vec((0..program.len(), any::<u8>()), 1..6), |bytes| {
            let damaged = with_bytes(&program, &bytes);
            fs::write(bad.path().join("pytorch_model.bin"), archive(&damaged, &storages)).expect("a file");
            let _ = MaskedLm::load(bad.path(), Kind::Float, Device::Cpu);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("pickle: {e}"));
}
