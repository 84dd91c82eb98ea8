//! Lets this package's tests find libtorch: a build script sets linker arguments only for its own package, and kernelview's
//! tells it where libtorch is.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(libtorch) = std::env::var("DEP_KERNELVIEW_LIBTORCH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}");
    }
}
