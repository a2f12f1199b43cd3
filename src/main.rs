//! The thin binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    replbench::cli::main()
}
