//! `embot`: parse and run.

use std::process::ExitCode;

fn main() -> ExitCode {
    embot::cli::main()
}
