//! Shards of a kernel by the real program: merged, they are the whole kernel, bit for bit; missing ones are named.

use std::fs;

use crate::common::command::{Answer, Scratch};

const KERNEL: &str = "--dtype f64 --device cpu --threads 1 --block 10";

#[test]
fn merged_shards_are_the_whole() {
    let scratch = Scratch::new();
    let cases = [
        ("train", "", 0),
        ("test", "--against test --test-limit 23", 0),
        ("chunks", "--parameter-chunks 3", 2),
        ("test-chunks", "--against test --test-limit 23 --parameter-chunks 2", 1),
    ];
    for (name, more, chunk) in cases {
        let whole = scratch.kernel(&format!("{KERNEL} {more} --out {name}-whole.safetensors"));
        assert_eq!(whole.code, Some(0), "{}", whole.stderr);
        let shard = |text: &str| scratch.kernel(&format!("{KERNEL} {more} --out {name}.safetensors --shard {text}"));
        let merge = || {
            let (directory, out) = (format!("{name}.safetensors.shards"), format!("{name}.safetensors"));
            scratch.run(&["merge", &directory, "--out", &out])
        };
        assert_eq!(shard("0/3").code, Some(0));
        assert_eq!(shard("2/3").code, Some(0));
        let early = merge();
        assert_eq!(early.code, Some(2));
        assert!(
            early.stderr.contains("blocks are missing") && early.stderr.contains("--shard 1/3"),
            "{}",
            early.stderr
        );
        assert!(!scratch.path(&format!("{name}.safetensors")).exists());
        assert_eq!(shard("1/3").code, Some(0));
        // A shard that is run again has nothing left to do.
        assert!(shard("1/3").stderr.contains("already there"));
        // A damaged block is made again.
        let block = format!("block-0000-0000-0{chunk}.safetensors");
        let owner = format!("{chunk}/3");
        let path = scratch.path(&format!("{name}.safetensors.shards/{block}"));
        fs::write(&path, b"half").expect("written");
        let damaged = merge();
        assert_eq!(damaged.code, Some(2));
        assert!(damaged.stderr.contains(&format!("{block}: not a complete kernel file")), "{}", damaged.stderr);
        assert_eq!(shard(&owner).code, Some(0));
        let merged = merge();
        assert_eq!(merged.code, Some(0), "{}", merged.stderr);
        let read = |file: &str| fs::read(scratch.path(file)).expect("a kernel");
        assert!(read(&format!("{name}.safetensors")) == read(&format!("{name}-whole.safetensors")), "{name} differs");
    }
}

/// Fails for: safetensors under a name of the paper's format, other bytes than `kernel` writes under it, several kernels
/// that are refused only after the blocks are read.
#[test]
fn merged_shards_have_the_format_of_their_name() {
    let scratch = Scratch::new();
    let done = |answer: Answer| assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    done(scratch.kernel(&format!("{KERNEL} --formula asymmetric --out direct_kernels_x.pt")));
    done(scratch.kernel(&format!("{KERNEL} --formula asymmetric --out K.safetensors --shard 0/1")));
    done(scratch.run(&["merge", "K.safetensors.shards", "--out", "merged_kernels_x.pt"]));
    for kind in ["kernels", "logits"] {
        let read = |name: &str| fs::read(scratch.path(&format!("{name}_{kind}_x.pt"))).expect("a file");
        assert!(read("direct") == read("merged"), "{kind} differ");
    }
    done(scratch.kernel(&format!("{KERNEL} --formula sgd,signgd --out S.safetensors --shard 0/1")));
    fs::remove_file(scratch.path("S.safetensors.shards/block-0000-0000-00.safetensors")).expect("a block");
    let refused = scratch.run(&["merge", "S.safetensors.shards", "--out", "S.pt"]);
    assert_eq!(refused.code, Some(2));
    let message = "error: --out: a .pt file holds one kernel, and the shards are of sgd,signgd: give a name ending in \
                   .safetensors, and `kernelview convert` it\n";
    assert_eq!(refused.stderr, message);
    assert!(!scratch.path("S.pt").exists());
}

#[test]
fn shards_of_another_kernel_are_refused() {
    let scratch = Scratch::new();
    let first = scratch.kernel(&format!("{KERNEL} --out K.safetensors --shard 0/2"));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let other = scratch.kernel("--dtype f64 --device cpu --threads 1 --block 9 --out K.safetensors --shard 1/2");
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.contains("these are the shards of another kernel"), "{}", other.stderr);
    let nothing = scratch.run(&["merge", "nowhere", "--out", "K.safetensors"]);
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.stderr.contains("nowhere: no manifest.json here"), "{}", nothing.stderr);
    for (flags, message) in [
        ("--parameter-chunks 0", "--parameter-chunks: it is 0, expected 1 or more"),
        ("--parameter-chunks 1000", "parameter tensors"),
    ] {
        let refused = scratch.kernel(&format!("{flags} --out K.safetensors"));
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
    let nobody = scratch.kernel("--shard auto --out K.safetensors");
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.stderr.contains("found neither SLURM_ARRAY_TASK_ID"), "{}", nobody.stderr);
}

#[test]
fn submission_scripts() {
    let scratch = Scratch::new();
    let words =
        "submit --slurm --shards 3 --option=--time=00:10:00 --out-dir jobs -- kernel --model model --out K.safetensors";
    let answer = scratch.run(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert_eq!(answer.stdout, "sh jobs/submit.sh\n");
    let read = |name: &str| fs::read_to_string(scratch.path(&format!("jobs/{name}"))).expect("a script");
    assert!(read("submit.sh").contains("--array=0-2") && read("submit.sh").contains("--dependency=afterok"));
    let shards = read("shards.sbatch");
    assert!(
        shards.contains("#SBATCH --time=00:10:00\n")
            && shards.contains("kernel --model model --out K.safetensors --shard auto")
    );
    assert!(read("merge.sbatch").contains("merge K.safetensors.shards --out K.safetensors"));
    let words = "submit --slurm --out-dir jobs -- reproduce --models model --data-dir data --tasks all";
    let grid = scratch.run(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(grid.code, Some(0), "{}", grid.stderr);
    assert!(read("shards.sbatch").ends_with(" reproduce --models model --data-dir data --tasks all --shard auto\n"));
    assert!(read("merge.sbatch").ends_with(" reproduce --models model --data-dir data --tasks all\n"));
}

/// What every job would be refused for is refused before scripts are written, with the jobs' own message.
#[test]
fn submissions_that_every_job_would_refuse() {
    let scratch = Scratch::new();
    let before = scratch.contents();
    let parser = "-- kernel: the following required arguments were not provided:\n  --out <FILE>";
    let grid = "reproduce --models model --data-dir data";
    for (words, message) in [
        ("-- analyze", "-- analyze: after --, give the command to submit: kernel or reproduce, with its arguments"),
        ("-- kernel --model model", parser),
        ("-- kernel --out", "-- kernel: a value is required for '--out <FILE>' but none was supplied"),
        ("-- kernel --k 0 --nope --out K.safetensors", "-- kernel: unexpected argument '--nope' found"),
        ("-- kernel --formula ntk --out K.safetensors", "[possible values: sgd, asymmetric, signgd]"),
        ("-- kernel --shares --out K.safetensors", "-- kernel: the argument '--shares' cannot be used with '--shard"),
        ("-- kernel --label-words a,b --out K.safetensors --", "-- kernel: unexpected argument"),
        ("-- kernel --block 0 --out K.safetensors", "--block: it is 0, expected 1 or more"),
        ("-- kernel --k 0 --out K.safetensors", "--k: it is 0, expected 1 or more"),
        ("-- kernel --engine reference --out K.safetensors", "--engine reference: --block, --parameter-chunks and"),
        ("-- kernel --engine reference --precision bf16 --out K", "--precision: needs the structured engine"),
        ("-- kernel --formula sgd --out K.pt", "give --out a name ending in .safetensors"),
        ("-- kernel --shard 0/2 --out K.safetensors", "--shard: remove it"),
        ("-- kernel --plan", "--plan: remove it"),
        ("-- kernel --help", "-- kernel: remove --help"),
        ("-- reproduce --tasks all", "-- reproduce: the following required arguments were not provided:"),
        (&format!("-- {grid} --dry-run"), "--dry-run: remove it"),
        (&format!("-- {grid} --shard auto"), "--shard: remove it"),
        (&format!("-- {grid} --k 16,0"), "--k: it is 0, expected 1 or more"),
        (&format!("-- {grid} --steps 0"), "--steps is 0, expected 1 or more"),
        (&format!("--option foo -- {grid}"), "--option foo: give an option of sbatch in one line that begins with -,"),
        (&format!("--option=-- -- {grid}"), "--option --: give an option of sbatch"),
        (&format!("--shards 0 -- {grid}"), "--shards: it is 0, expected 1 or more"),
    ] {
        let line = format!("submit --slurm {words}");
        let refused = scratch.run(&line.split_whitespace().collect::<Vec<_>>());
        let said = &refused.stderr;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{line}: {said}");
        assert!(said.starts_with("error: ") && said.contains(message), "{line}: {said}");
    }
    // A second line would be a command of the script.
    let lines = ["submit", "--slurm", "--option", "--time=1\nrm", "--", "kernel", "--out", "K.safetensors"];
    assert_eq!(scratch.run(&lines).code, Some(2));
    assert!(scratch.contents() == before, "scripts were written");
}
