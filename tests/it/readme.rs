//! The README's text about the claims is the program's. `KERNELVIEW_UPDATE=1 cargo test --test it readme` rewrites it.

use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- claims -->";
const END: &str = "<!-- /claims -->";

#[test]
fn the_table_of_claims_is_the_registry() {
    let output = Command::new(env!("CARGO_BIN_EXE_kernelview")).args(["claims", "--format", "markdown"]).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).expect("UTF-8");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("a README");
    let (before, rest) = readme.split_once(BEGIN).unwrap_or_else(|| panic!("README.md has no {BEGIN}"));
    let (inside, after) = rest.split_once(END).unwrap_or_else(|| panic!("README.md has no {END} after {BEGIN}"));
    if inside.trim() == table.trim() {
        return;
    }
    if std::env::var_os("KERNELVIEW_UPDATE").is_some_and(|v| v == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim()))
            .expect("README.md is writable");
        return;
    }
    panic!(
        "README.md between {BEGIN} and {END} is not what `kernelview claims --format markdown` prints; \
         KERNELVIEW_UPDATE=1 cargo test --test it readme rewrites it"
    );
}
