//! The tests of the shipped policies, as `embot test` runs them: all pass, and every line of every policy runs in them.

use embot::simulate::world::{Library, files};
use embot::testing::{Plan, SUFFIX, junit, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn library() -> Library {
    Library::read(&folder("policies"), &folder("embots")).unwrap()
}

fn plan(scripts: Vec<(String, String)>) -> Plan {
    Plan {
        scripts,
        library: Arc::new(library()),
        whole: true,
        filters: Vec::new(),
        jobs: 2,
        patience: Duration::from_secs(600),
        lines: true,
    }
}

#[test]
fn all_tests_of_shipped_policies_pass_and_run_every_line() {
    let scripts =
        files(&folder("policies"), SUFFIX).unwrap().into_iter().map(|path| (name(&path), fs::read_to_string(&path).unwrap()));
    let report = run(&plan(scripts.collect()), |_| {});
    assert!(report.complaints.is_empty(), "{:?}", report.complaints);
    let failed: Vec<_> = report.tests.iter().filter(|test| test.failure.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(report.tests.len() >= 40, "{}", report.tests.len());
    for policy in &report.coverage {
        assert!(policy.lines > 0 && policy.missed.is_empty(), "{}: never ran: {}", policy.policy, policy.ranges());
    }
    assert_eq!(report.coverage.len(), library().policies().count());
}

/// What comes of one script: the report, with what differs from run to run made the same.
fn outcome(script: &str) -> embot::testing::Report {
    let mut report = run(&plan(vec![("try_test.rhai".to_owned(), script.to_owned())]), |_| {});
    report.seconds = 0.0;
    report.tests.iter_mut().for_each(|test| test.seconds = 0.0);
    report.coverage.clear();
    report
}

const WORLD: &str = "
fn it() {
    let w = world(#{ hosts: [#{ name: \"a\" }], guests: [#{ name: \"web\" }] });
    w.deploy(\"restart-crashed\", #{ mode: \"act\" });
    w.fault(#{ fault: \"guest_crashes\", guest: \"web\" });
    w
}
";

#[test]
fn a_failure_says_what_was_expected_what_was_and_what_led_there() {
    let script = format!(
        "{WORLD}
fn test_it_is_started() {{
    let w = it();
    print(`before: ${{w.vm(\"web\").state}}`);
    w.run(seconds(30));
    assert_eq(w.actions().map(|one| one.state), [\"planned\"]);
}}"
    );
    let report = outcome(&script);
    let failed = &report.tests[0];
    let failure = failed.failure.as_ref().unwrap();
    assert_eq!((failure.error.line, failure.error.message.as_str()), (13, "these differ"));
    assert_eq!((failure.expected.as_deref(), failure.actual.as_deref()), (Some("[\"planned\"]"), Some("[\"done\"]")));
    assert_eq!(failed.printed, ["before: running"]);
    let told = failed.told.join("\n");
    for line in ["web crashed (crashed)", "plan 2 start web on a: crashed (crashed), restart 1 of 6", "done 2 start web on a"] {
        assert!(told.contains(line), "{told}");
    }
    let text = junit(&report).unwrap();
    assert!(text.contains("failures=\"1\"") && text.contains("test_it_is_started") && text.contains("web crashed"), "{text}");
}

#[test]
fn what_is_wrong_in_a_test_is_said_with_its_line_and_a_remedy() {
    let wrong = [
        ("world(#{ hosts: [#{ nam: \"a\" }] })", "nam"),
        ("world(#{ guests: [] })", "hosts"),
        ("world(#{ hosts: [#{ name: \"a\" }], poll: \"often\" })", "poll"),
        ("world(#{ hosts: [#{ name: \"a\" }], planes: #{ b: #{ hosts: [\"c\"] } } })", "plane b has no hosts"),
        (
            "world(#{ hosts: [#{ name: \"a\" }], planes: #{ b: #{} }, adopt: \"act\" })",
            "`adopt` belongs to one of the `planes`",
        ),
        ("it().deploy(\"restart-crashd\")", "did you mean `restart-crashed`?"),
        ("it().deploy(\"restart-crashed\", #{ settings: #{ mist: 5 } })", "no policy of the module has a setting `mist`"),
        ("it().fault(#{ fault: \"guest_crashes\", guest: \"wbe\" })", "did you mean `web`?"),
        ("it().fault(#{ fault: \"guest_cries\", guest: \"web\" })", "guest_crashes"),
        ("it().order(\"start\", \"nobody\")", "nobody"),
        ("it().order(\"fly\", \"web\")", "`fly` is no action"),
        ("it().mode(\"restart-crashed\", \"loud\")", "observe, advise and act"),
        ("it().approve(77)", "77"),
        ("it().plane(\"away\")", "no plane `away`"),
        ("world(#{ hosts: [#{ name: \"a\" }], planes: #{ b: #{}, c: #{} } })", "would belong to planes b and c"),
        ("world(#{ hosts: [#{ name: \"a\" }], store: \"x\" })", "`store` has no meaning"),
        ("it().vm(5)", "a text is wanted here, not 5"),
        ("it().rnu(seconds(5))", "did you mean `run`?"),
        ("it().heat(#{ guests: [\"wbe\"], cpu: 1.0, \"for\": 1000 })", "did you mean `web`?"),
    ];
    for (call, said) in wrong {
        let report = outcome(&format!("{WORLD}\nfn test_it() {{\n    {call};\n}}"));
        let failure = report.tests[0].failure.as_ref().unwrap_or_else(|| panic!("{call} is right"));
        let text = failure.error.to_string();
        assert!(text.starts_with("try_test.rhai:10:") && text.contains(said), "{call}: {text}");
    }
}

#[test]
fn a_policy_that_fails_fails_its_test_unless_that_is_what_is_tested() {
    let mut library = library();
    library.add_policy("broken.rhai", "fn on_crashed(vm) { vm.nonsense(); }");
    library.add_manifest("broken.yaml", "module: broken\nversion: '1'\npolicies: [broken.rhai]\ncovers: { each: vm }\n");
    library.add_policy("faulty.rhai", "fn on_crashed(vm) { let list = []; list[3]; }");
    library.add_manifest("faulty.yaml", "module: faulty\nversion: '1'\npolicies: [faulty.rhai]\ncovers: { each: vm }\n");
    let script = format!(
        "{WORLD}
fn test_what_does_not_check_is_refused() {{ it().deploy(\"broken\"); }}
fn test_a_fault_is_told() {{
    let w = it();
    w.deploy(\"faulty\");
    w.fault(#{{ fault: \"watchdog_off\", guest: \"web\" }});
    w.run(minutes(2));
    w.fault(#{{ fault: \"guest_crashes\", guest: \"web\" }});
    w.run(minutes(1));
}}
fn test_a_fault_that_is_asked_for_is_none() {{
    let w = it();
    w.deploy(\"faulty\");
    w.run(minutes(2));
    w.fault(#{{ fault: \"guest_crashes\", guest: \"web\" }});
    w.run(minutes(1));
    assert(w.faults()[0].error.contains(\"3 elements\") || w.faults()[0].error.contains(\"empty\"), w.faults()[0].error);
}}"
    );
    let plan = Plan { library: Arc::new(library), ..plan(vec![("try_test.rhai".to_owned(), script)]) };
    let report = run(&plan, |_| {});
    let told: Vec<String> = report
        .tests
        .iter()
        .map(|test| test.failure.as_ref().map_or_else(|| "passed".to_owned(), |failure| failure.error.to_string()))
        .collect();
    assert!(told[0].contains("nonsense"), "{told:#?}");
    assert!(told[1].contains("policy of module faulty failed: faulty.rhai:1:") && told[1].contains("faults()"), "{told:#?}");
    assert_eq!(told[2], "passed", "{told:#?}");
}

#[test]
fn filters_and_scripts_that_cannot_be_read() {
    let script = "fn test_one() { } fn test_two() { }";
    let named = Plan { filters: vec!["two".to_owned()], ..plan(vec![("try_test.rhai".to_owned(), script.to_owned())]) };
    let report = run(&named, |_| {});
    assert_eq!((report.passed, report.left_out), (1, 1));
    assert_eq!(report.tests[0].name, "test_two");
    let report = outcome("fn test_it( {");
    assert_eq!((report.tests.len(), report.complaints.len()), (0, 1));
    assert!(junit(&report).unwrap().contains("errors=\"1\""), "a script that cannot be read is no success");
    let report = outcome("fn helper() { }");
    assert!(report.complaints[0].to_string().contains("there is no test in it"), "{}", report.complaints[0]);
}

#[test]
fn the_readmes_first_policy_does_what_its_test_says() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = |kind: &str, with: &str| {
        let begins = format!("```{kind}\n");
        let blocks = readme.split(&begins).skip(1).filter_map(|rest| rest.split_once("\n```"));
        let mut found = blocks.map(|(block, _)| block.to_owned()).filter(|block| block.contains(with));
        found.next().unwrap_or_else(|| panic!("the README has no {kind} with `{with}`"))
    };
    let mut library = Library::new("README.md");
    library.add_manifest("rest-batch.yaml", &block("yaml", "module: rest-batch"));
    library.add_policy("rest-batch.rhai", &block("rhai", "fn on_load(vm, host, settings)"));
    let scripts = vec![("rest-batch_test.rhai".to_owned(), block("rhai", "fn test_"))];
    let report = run(&Plan { library: Arc::new(library), ..plan(scripts) }, |_| {});
    assert_eq!((report.passed, report.failed), (1, 0), "{:#?}", report.tests);
    assert!(report.coverage[0].missed.is_empty(), "{:?}", report.coverage);
}
