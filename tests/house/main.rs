//! The rules of the house, as tests: which part may import which, where time and chance come from, which library is named where.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts, in the order imports may point: each may import those before it, and those that share its number.
const ORDER: &[(&str, u32)] = &[
    ("model", 0),
    ("clock", 1),
    ("error", 1),
    ("process", 1),
    ("yaml", 2),
    ("queue", 2),
    ("usage", 2),
    ("pki", 3),
    ("policy", 3),
    ("plan", 3),
    ("embot", 4),
    ("migration", 4),
    ("hypervisor", 5),
    ("sensors", 6),
    ("effectors", 6),
    ("store", 6),
    ("manager", 7),
    ("config", 8),
    ("api", 8),
    ("simulate", 8),
    ("traces", 8),
    ("testing", 9),
    ("daemon", 9),
    ("cli", 10),
];

/// Parts without input and output: no files, sockets, threads, runtime or wall clock.
const PURE: &[&str] = &["model", "queue", "usage", "policy", "plan", "embot", "migration"];

fn source_files() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inner = path.strip_prefix(&root).unwrap();
                let part = inner.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
                files.push((part, inner.to_path_buf(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(files.len() > 40, "the walk over src found only {} files", files.len());
    files
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_point_one_way() {
    let order: BTreeMap<_, _> = ORDER.iter().copied().collect();
    let mut wrong = Vec::new();
    for (part, path, text) in source_files().into_iter().filter(|(part, ..)| part != "main" && part != "lib") {
        let Some(own) = order.get(part.as_str()) else {
            wrong.push(format!("{}: the part `{part}` has no place in the order of imports", path.display()));
            continue;
        };
        let code = code(&text);
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let named: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap().split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for name in named {
                let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                match order.get(name) {
                    Some(other) if other > own => wrong.push(format!("{}: `{part}` imports `{name}`", path.display())),
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_part_touches_no_outside() {
    let outside = ["tokio", "std::fs", "std::net", "std::thread", "std::process", "SystemTime", "std::env", "crossbeam"];
    let mut wrong = Vec::new();
    for (part, path, text) in source_files() {
        // The link is the one part of the migration that speaks to the outside.
        let link = path.starts_with("migration/link");
        if !PURE.contains(&part.as_str()) || link || path.iter().any(|step| step == "tests" || step == "tests.rs") {
            continue;
        }
        let code = code(&text);
        wrong.extend(outside.iter().filter(|word| code.contains(*word)).map(|word| format!("{}: {word}", path.display())));
    }
    assert!(wrong.is_empty(), "the pure part reaches outside:\n{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_in_their_part() {
    let homes: [(&str, &[&str]); 16] = [
        ("rhai::", &["policy"]),
        ("redb::", &["store"]),
        ("prometheus_client", &["api/metrics", "manager/tally.rs", "store/writer.rs"]),
        (" virt::", &["hypervisor/libvirt"]),
        ("virt_sys", &["hypervisor/libvirt"]),
        ("rcgen::", &["pki", "effectors/notify/tests.rs"]),
        ("x509_parser::", &["pki"]),
        ("rustls::", &["pki", "migration/link", "effectors/notify", "api/network.rs", "cli/remote.rs"]),
        ("tonic::", &["migration/link"]),
        ("prost::", &["migration/link"]),
        ("ratatui::", &["cli/top"]),
        ("crossterm::", &["cli/top"]),
        ("ureq::", &["effectors/notify"]),
        ("lettre::", &["effectors/notify"]),
        // Signatures of modules, secrets of tokens; keys are made on the command line, where chance comes from.
        (" ring::", &["embot/package", "cli/module", "pki", "migration/link", "api/tokens.rs"]),
        ("hyper::", &["api/connections.rs", "api/admitted.rs", "cli/client.rs", "cli/remote.rs", "traces"]),
    ];
    let mut wrong = Vec::new();
    for (_, path, text) in source_files() {
        let code = code(&text);
        for (library, homes) in homes {
            if code.contains(library) && !homes.iter().any(|home| path.starts_with(home)) {
                wrong.push(format!("{}: names {library}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "a library is named outside its part:\n{}", wrong.join("\n"));
}

#[test]
fn time_comes_from_the_clock() {
    let mut wrong = Vec::new();
    for (part, path, text) in source_files() {
        let code = code(&text);
        if part != "clock" && code.contains("SystemTime::now") {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "the wall clock is read outside `clock`:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_one_file() {
    let homes = ["hypervisor/libvirt/ffi.rs"];
    let mut wrong = Vec::new();
    for (_, path, text) in source_files() {
        let inside = code(&text).contains("unsafe ") && !homes.iter().any(|home| path.ends_with(home));
        wrong.extend(inside.then(|| path.display().to_string()));
    }
    assert!(wrong.is_empty(), "unsafe code outside its file:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = source_files()
        .iter()
        .filter(|(_, _, text)| text.lines().count() > 650)
        .map(|(_, path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "a file this long holds two ideas:\n{}", long.join("\n"));
}

#[test]
fn nothing_names_a_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for file in ["README.md", "Makefile", "Cargo.toml", ".ci/run", ".ci/setup"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        if ["/home/", "/work/", "/root/"].iter().any(|place| text.contains(place)) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "a machine's path stands in {wrong:?}");
}
