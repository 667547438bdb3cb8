//! `embot check` over broken and sound modules, as an admin sees it.
//!
//! Each folder of `broken/` holds one defect and is named after it. What is said about it is a snapshot; and whatever the
//! words, each must name the file, the line and what to do. `good/` and the shipped modules must pass without a word.

use embot::embot::check::check_tree;
use embot::error::{Style, render};
use embot::testing::SUFFIX;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// All files below a folder, by their path in it.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                all.insert(name, fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
    }
    all
}

fn here(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    all.sort();
    all
}

fn rendered(files: &BTreeMap<String, String>) -> String {
    let report = check_tree(files);
    let texts = report.diagnostics.iter().map(|one| render(one, files.get(&*one.file).map(String::as_str), Style::Plain));
    format!("{}{}\n", texts.collect::<String>(), report.summary())
}

#[test]
fn each_broken_module_is_explained() {
    let all = folders(&here("tests/check/broken"));
    assert!(all.len() >= 30, "only {} broken modules", all.len());
    for folder in all {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let files = files(&folder);
        let report = check_tree(&files);
        assert!(!report.diagnostics.is_empty(), "{name}: nothing was found");
        for one in &report.diagnostics {
            assert!(files.contains_key(&*one.file), "{name}: {one}");
            let lines = files[&*one.file].lines().count().max(1) as u32;
            assert!(one.line >= 1 && one.line <= lines + 1, "{name}: no line: {one}");
            assert!(one.hint.as_ref().is_some_and(|hint| hint.len() > 5), "{name}: no remedy: {one}");
            let text = render(one, files.get(&*one.file).map(String::as_str), Style::Plain);
            assert!(text.contains(&format!("{}:{}:", one.file, one.line)), "{name}: {text}");
        }
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, rendered(&files));
        });
    }
}

#[test]
fn sound_modules_pass_without_a_word() {
    for folder in folders(&here("tests/check/good")) {
        let files = files(&folder);
        let report = check_tree(&files);
        assert!(report.modules > 0 && report.policies > 0, "{}", folder.display());
        assert_eq!(report.diagnostics, [], "{}", rendered(&files));
    }
}

#[test]
fn shipped_modules_pass_without_a_word() {
    let mut all = BTreeMap::new();
    for folder in ["policies", "embots"] {
        let files = files(&here(folder)).into_iter().filter(|(name, _)| !name.ends_with(SUFFIX));
        // Manifests of a folder within name their policies as the others do: from the folder of policies.
        let place = |name: String| if folder == "embots" { name.replace("reference/", "") } else { name };
        all.extend(files.map(|(name, text)| (format!("{folder}/{}", place(name)), text)));
    }
    let report = check_tree(&all);
    assert!(report.modules >= 4 && report.policies >= 4);
    assert_eq!(report.diagnostics, [], "{}", rendered(&all));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Sound modules with pieces cut out, doubled and turned round: whatever comes of it is told, and nothing panics.
    #[test]
    fn no_mutilated_module_panics(which in 0usize..100, cuts in proptest::collection::vec((0usize..20_000, 0usize..60, 0u8..3), 1..5)) {
        let mut all = files(&here("tests/check/good/rich"));
        let name = all.keys().nth(which % all.len()).cloned().expect("files");
        let mut text: Vec<char> = all[&name].chars().collect();
        for (at, length, how) in cuts {
            let at = at % text.len().max(1);
            let end = (at + length).min(text.len());
            match how {
                0 => { text.drain(at..end); }
                1 => { let piece = text[at..end].to_vec(); text.splice(at..at, piece); }
                _ => text[at..end].reverse(),
            }
        }
        all.insert(name, text.into_iter().collect());
        for one in check_tree(&all).diagnostics {
            proptest::prop_assert!(one.line >= 1 && one.hint.is_some(), "{}", one);
        }
    }
}

/// What `embot check --effective` prints for a shipped module.
#[test]
fn effective_values_show_where_each_comes_from() {
    let mut all = BTreeMap::new();
    for name in ["embots/relieve-hot-host.yaml", "policies/relieve-hot-host.rhai"] {
        all.insert(name.to_owned(), fs::read_to_string(here(name)).expect("a shipped file"));
    }
    let text = embot::embot::effective(&all, &embot::plan::Guardrails::default());
    serde_yaml::from_str::<serde_yaml::Value>(&text).expect("it is YAML");
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("effective", text);
    });
}
