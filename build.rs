//! Compiles what planes say to each other, with a compiler written in Rust, so that none has to be installed.

use std::error::Error;

const FILE: &str = "src/migration/link/planes.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FILE}");
    let descriptors = protox::compile([FILE], ["."])?;
    tonic_prost_build::configure().build_transport(false).bytes(".embot.planes.v1.Message.content").compile_fds(descriptors)?;
    Ok(())
}
