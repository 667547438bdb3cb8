//! Compiles what planes say to each other, with a compiler written in Rust, so that none has to be installed; and lists the
//! modules and policies that the program carries.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "src/migration/link/planes.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FILE}");
    let descriptors = protox::compile([FILE], ["."])?;
    tonic_prost_build::configure().build_transport(false).bytes(".embot.planes.v1.Message.content").compile_fds(descriptors)?;
    list_shipped()
}

/// Manifests and policies, each with its path and its text; those of a folder within are named with it.
fn list_shipped() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    for folder in ["embots", "policies"] {
        walk(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root)?;
        writeln!(list, "    ({:?}, include_str!({:?})),", name.display().to_string(), file.display().to_string())?;
    }
    list.push_str("]\n");
    fs::write(Path::new(&std::env::var("OUT_DIR")?).join("shipped.rs"), list)?;
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "rhai") {
            files.push(path);
        }
    }
    Ok(())
}
