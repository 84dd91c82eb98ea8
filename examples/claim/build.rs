//! Lets this package's tests find libtorch: a build script sets linker arguments for its own package only, and kernelview tells
//! where libtorch is.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(libtorch) = std::env::var("DEP_KERNELVIEW_LIBTORCH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}");
    }
}
