use crate::error::Diagnostic;
use crate::model::World;
use crate::policy::{Engine, Limits};
use crate::usage::Usage;
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// Making an engine costs more than most checks.
    static ENGINE: Engine =
        Engine::new(Rc::new(RefCell::new(World::new("home"))), Rc::new(RefCell::new(Usage::default())), Limits::default());
}

fn read(file: &str, text: &str) -> Vec<Diagnostic> {
    ENGINE.with(|engine| engine.inspect(file, text).diagnostics)
}

fn complaints(text: &str) -> String {
    read("p.rhai", text).iter().map(|one| format!("{one}\n")).collect()
}

/// Scripts that are odd but sound.
const SOUND: &[&str] = &[
    // Closures over lists of guests and hosts, captured variables, chains.
    r#"
    fn settings() { #{ hot: 0.85, wait: minutes(2), tiers: ["web", "db"], deep: #{ a: 1 } } }
    fn on_load(host, settings, plane) {
        if host == () || host.maintenance { return; }
        let limit = settings.hot;
        let hot = plane.hosts.filter(|h| h.up && h.cpu > limit && h.name != host.name);
        let names = hot.map(|h| h.name);
        print(`${names.len()} hot hosts: ${names}`);
        let total = 0.0;
        hot.for_each(|h| total += h.cpu);
        let tiers = settings.tiers;
        let vms = host.vms.filter(|v| v.running && !v.busy && tiers.contains(v.label("tier")));
        vms.sort(|a, b| if a.cpu_cores > b.cpu_cores { -1 } else { 1 });
        let first = vms.find(|v| v.memory_mib < 4096);
        if first != () && host.usage("cpu").mean(settings.wait) > settings.hot {
            first.migrate(`host ${host.name} at ${percent(host.cpu)}, ${format(total, 2)}`);
        }
        let best = ();
        for v in vms { if best == () || v.cpu > best.cpu { best = v; } }
        if best != () { best.migrate("the hottest"); }
        if settings.deep.a == 1 { debug(settings.deep); }
    }
    "#,
    // State, timers, messages, helpers with `this`, switch, loops.
    r#"
    fn bump(key) { this[key] = this.get(key, 0) + 1; this[key] }
    fn remember(id) { if !("guests" in this) { this.guests = #{}; } this.guests[id] = #{ tries: 0, at: now() }; }
    fn on_crashed(vm, event) {
        this.remember(vm.id);
        let guest = this.guests[vm.id];
        guest.tries += 1;
        this.guests[vm.id] = guest;
        this.bump("crashes");
        after(seconds(10) * guest.tries, "retry " + vm.id, #{ id: vm.id, why: event.reason });
        send("capacity", #{ lost: vm.memory_mib });
    }
    fn on_timer(event, plane) {
        if event.name.starts_with("retry ") {
            let vm = plane.vm(event.content.id);
            if vm == () { return; }
            switch vm.state {
                "off" | "crashed" => vm.start("again, " + event.content.why),
                "paused" if vm.reason != "migration" => vm.resume("was paused"),
                _ => ()
            }
        }
    }
    fn on_message(event) {
        switch event.channel {
            "maintenance" => { this.last = event.content.anything.at.all; }
            _ => notify("warning", "what? " + event.content)
        }
        while this.last > 0 { this.last -= 1; }
        do { this.last += 1; } until this.last > 3;
        for i in 0..3 { this.last += i; }
        for (name, index) in ["a", "b"] { print(name.to_upper() + index); }
        let x = if this.last > 3 { "many" } else { 5 };
        print(x);
        let f = |a, b| a + b;
        print(f.call(1, 2));
        try { throw "x" } catch (error) { print(error); }
        let map = #{ add: |a| a + 1, n: 3 };
        print(map.add(2));
        print(map?.n ?? 4);
        print(type_of(map));
    }
    "#,
    // Offers, peers, and a move whose kind only shows when it runs.
    r#"
    fn settings() { #{ keep: 1024, mode: "advise" } }
    fn on_migration_offer(offer, plane, settings, event) {
        if offer.peer == () || !offer.peer.receives { return offer.deny(`${offer.plane} is no peer`); }
        for m in offer.modules { if m.signed_by == "" || "destroy" in m.permits { offer.deny(m.name); return; } }
        let keep = settings.keep;
        let first = offer.hosts.find(|h| h.memory_mib > keep);
        if first == () { offer.deny(`${offer.obstacles}`); return; }
        if offer.mode == "act" && offer.label("tier") == "db" { offer.accept(#{ mode: settings.mode, host: first.name }); }
        else { offer.accept(); }
    }
    fn best() { let all = peers(); all.sort(|a, b| if a.free_memory_mib > b.free_memory_mib { -1 } else { 1 }); all[0] }
    fn ship(vm, there) { vm.migrate_to(there, "out") }
    fn on_load(vm, plane) {
        if vm == () { return; }
        let to = best();
        if to != () && to.reachable && to.cpu < 0.5 { vm.migrate_to(to, "away"); }
        let other = peer("b");
        if other != () && other.largest_free_mib >= vm.memory_mib { vm.migrate_to(other, "host-x", "there"); }
        this.where = if vm.cpu > 0.5 { plane.hosts[0] } else { other };
        this.where = ();
    }
    "#,
    // What callers pass decides what a helper gets.
    r#"
    fn cost(vm) { vm.memory_mib / 1024.0 + vm.usage("net").percentile(95, minutes(10)) / 1e6 }
    fn pick(list, by) { let sorted = list; sorted.sort(|a, b| if by.call(a) < by.call(b) { -1 } else { 1 }); sorted[0] }
    fn never_called(thing) { thing.whatever }
    fn label_or(thing, key, other) { let l = thing.label(key); if l == "" { other } else { l } }
    fn on_maintenance(event, host) {
        if !event.on || host.vms.is_empty() { return; }
        let vm = pick(host.vms, |v| cost(v));
        vm.migrate(`maintenance of ${host.name}: ${label_or(vm, "tier", "none")} ${label_or(host, "rack", "?")}`);
        let words = host.name.split("-");
        print(words[0] + words.len);
        let by_tier = #{};
        for v in host.vms {
            let tier = v.labels.get("tier", "none");
            if !(tier in by_tier) { by_tier[tier] = []; }
            by_tier[tier].push(v);
        }
        for tier in by_tier.keys() { print(tier); by_tier[tier].for_each(|v| print(v.name)); }
        let sums = host.vms.map(|v| v.cpu_cores).reduce(|sum, c| sum + c, 0.0);
        let loads = host.usage("cpu").values(minutes(5)).filter(|x| !x.is_nan());
        print(sums + loads.len());
    }
    fn on_host_down(host, event, plane) {
        let near = plane.hosts.filter(|h| h.site == host.site).map(|h| h.name);
        notify("alarm", `${host.name} down: ${event.reason}; nearby ${near}`);
        for v in plane.violations { if v.hard { print(v.rule + v.kind); } }
        if plane.host("a")?.up == true { print("a is up"); }
        let other = plane.host("b");
        if other == () { other = plane.hosts[0]; }
        print(other.name);
    }
    "#,
];

#[test]
fn this_is_where_it_is_given_and_nowhere_else() {
    let helper = "fn bump(by) { this.count = this.get(\"count\", 0) + by; }\n";
    let wrong = [
        format!("{helper}fn on_crashed(vm) {{\n    this.bump(1);\n    bump(1);\n}}\n"),
        "fn on_load(host) {\n    this.limit = 0.9;\n    let hot = host.vms.filter(|vm| vm.cpu > this.limit);\n    print(hot.len());\n}\n".to_owned(),
    ];
    insta::assert_snapshot!(wrong.map(|text| complaints(&text)).join("---\n"));
    for sound in [
        format!(
            "{helper}fn twice(by) {{ this.bump(by); this.bump(by); }}\nfn on_crashed(vm) {{ this.twice(1); print(this.count); }}\n"
        ),
        // Without a parameter, a function of lists gives the element as `this`.
        "fn on_load(host) { let hot = host.vms.filter(|| this.cpu > 0.9); print(hot.len()); }\n".to_owned(),
        "fn on_crashed(vm) { this.limit = 3; let over = |n| n > this.limit; print(this.call(over, 4)); }\n".to_owned(),
    ] {
        assert_eq!(complaints(&sound), "", "{sound}");
    }
}

#[test]
fn sound_scripts_pass_without_a_word() {
    for text in SOUND {
        assert_eq!(complaints(text), "", "{text}");
    }
}

#[test]
fn mistakes_are_found_where_they_are() {
    insta::assert_snapshot!(complaints(
        r#"
fn settings() { #{ hot: 0.85, wait: minutes(2), name: "x" } }
fn on_laod(vm) { }
fn on_load(host, guest, settings) {
    if host.cpuu > settings.hott { host.migrate("x"); }
    for v in host.vms { v.migrat("hot"); v.migrate(); v.migrate(""); print(v.cpu()); print(v.usage); }
    let far = host.vms.filter(|v| v.memry > 0.5).map(|v| v.nmae);
    far.len(3);
    host.vms.migrate("all");
    print(host.usage("cpuu").mean(300) + host.usage("cpu").avg(minutes(3)));
    notfy("x"); notify("loud", "x"); nwo();
    if host == "a" || host.cpu == () || host.name > 3 || host.cpu < () { }
    this.conut += 1;
    sleep(5);
    after(seconds(5), "retry");
    host.up = true;
}
fn on_host_down(vm, event) { print(event.nam); }
fn on_timer(event) { if event.name == "rerty" { } }
fn on_stopped(vm) { if vm.state == "stoped" { vm.start("again", 3); } cost(vm); cost(3); }
fn cost(a) { a.lenght }
fn now() { 5 }
let top = 3;
"#
    ));
}

#[test]
fn what_does_not_parse_is_explained() {
    let texts = [
        "fn on_load(host) { if vm.cpu > 1 { } }",
        "fn on_load(host) { let x = 5 print(x); }",
        "fn on_load(host) { if x { ",
        "fn on_load(host) { eval(\"1\"); }",
        "fn on_load(host) { } fn on_load(vm) { }",
        "fn on_load(host) { host.cpu() = 3; }",
        "fn on_load(host) { let x = \"abc; }",
        "fn on_load(host) { \u{1} }",
        "import \"x\" as y;",
        "",
    ];
    let all: String = texts.iter().map(|text| complaints(text)).collect();
    insta::assert_snapshot!(all);
}

/// The check must stay fast and end, whatever the depth.
#[test]
fn deep_and_long_scripts_end() {
    let chain = format!("fn on_load(host) {{ host{}; }}", ".vms".repeat(3_000));
    let sum = format!("fn on_load(host) {{ let x = 1{}; }}", " + 1".repeat(20_000));
    let nested = format!("fn on_load(host) {{ {}{} }}", "if true { ".repeat(500), "}".repeat(500));
    let mut ladder = String::from("fn f0(x) { x }\n");
    for i in 1..200 {
        ladder.push_str(&format!("fn f{i}(x) {{ f{}(x) }}\n", i - 1));
    }
    ladder.push_str("fn on_load(host) { f199(host).cpuu }");
    for text in [chain, sum, nested, ladder] {
        let _ = read("p.rhai", &text);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = read("p.rhai", &text);
    }

    /// Sound scripts with pieces cut out, doubled and swapped.
    #[test]
    fn no_broken_script_panics(which in 0usize..SOUND.len(), cuts in proptest::collection::vec((0usize..4000, 0usize..40, 0u8..3), 1..6)) {
        let mut text: Vec<char> = SOUND[which].chars().collect();
        for (at, length, how) in cuts {
            let at = at % text.len().max(1);
            let end = (at + length).min(text.len());
            match how {
                0 => { text.drain(at..end); }
                1 => { let piece = text[at..end].to_vec(); text.splice(at..at, piece); }
                _ => text[at..end].reverse(),
            }
        }
        let text: String = text.into_iter().collect();
        let _ = read("p.rhai", &text);
    }
}
