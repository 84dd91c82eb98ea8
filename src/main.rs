//! The `kernelview` command.

fn main() -> std::process::ExitCode {
    kernelview::cli::main()
}
