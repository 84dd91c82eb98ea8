//! Lets every binary, test, bench and doctest of this package find libtorch at run time, with no LD_LIBRARY_PATH, and compiles the
//! functions that libtorch has to differentiate (`src/products/*.cpp`).
//!
//! The bindings (torch-sys, `links = "tch"`) tell where they found libtorch, but a build script can set linker
//! arguments for its own package only: so it is done here.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Absent on Windows, where libraries are found through PATH.
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    // A relative LIBTORCH means relative to where the bindings were built, which cargo does not tell. Only the
    // workspace root makes sense, and that is this package's directory.
    let library = manifest_directory().join(library);

    compile_functions(&library);

    // First the directory itself, so that the program outlives the checkout and its link; then the way through the
    // link, so that it also outlives a move of the cache.
    let mut places = vec![library.canonicalize().unwrap_or_else(|_| library.clone())];
    if places[0] != library {
        places.push(library.clone());
    }
    // `links = "kernelview"`: dependent packages, whose build scripts must do the same, read
    // DEP_KERNELVIEW_LIBTORCH.
    println!("cargo::metadata=LIBTORCH={}", places[0].display());
    for place in places {
        // `-Wl,` splits at commas, and a directory may have one in its name; `-Xlinker` passes anything.
        for argument in ["-rpath".as_ref(), place.as_os_str()] {
            println!("cargo::rustc-link-arg=-Xlinker");
            println!("cargo::rustc-link-arg={}", argument.display());
        }
    }
    // Another libtorch behind the same link: link again. A path that does not exist would rebuild every time.
    let core = library.join("libtorch_cpu.so");
    if core.exists() {
        println!("cargo::rerun-if-changed={}", core.display());
    }
}

/// With the headers and settings that the bindings are compiled with.
fn compile_functions(library: &Path) {
    const SOURCES: [&str; 2] = ["src/products/linear.cpp", "src/products/gated.cpp"];
    for read in SOURCES.into_iter().chain(["src/products/own.h"]) {
        println!("cargo::rerun-if-changed={read}");
    }
    for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let beside = library.parent().unwrap_or(library).to_path_buf();
    let root = env::var_os("LIBTORCH_INCLUDE").map_or(beside, |own| manifest_directory().join(own));
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .pic(true)
        .warnings(false)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .define("GLOG_USE_GLOG_EXPORT", None)
        .opt_level(1)
        .files(SOURCES)
        .compile("kernelview_products");
}

fn manifest_directory() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| Path::new(".").to_path_buf(), PathBuf::from)
}
