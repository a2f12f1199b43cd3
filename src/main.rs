//! The binary: only calls `replbench::cli::main`.

use std::process::ExitCode;

fn main() -> ExitCode {
    replbench::cli::main()
}
