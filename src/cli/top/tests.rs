//! `embot top` as people see it: keys are pressed, a daemon of two or of 500 hosts answers, and the screen is looked at.

use super::draw::draw;
use super::page::Content;
use super::state::{Command, Picture, State, Target, Want, Window};
use super::update::{Effect, Input, update};
use crate::api::actions::{ActionView, PlanView, ProgressView, RefusalView};
use crate::api::elements::{self, ElementDetail, ElementFilter, ElementView, HostView, VmView};
use crate::api::embots::EmbotView;
use crate::api::migrations::{MigrationView, PeerView, PeersView, PhaseView};
use crate::api::recent::{RecordView, Scribe};
use crate::api::status::{DownView, FiguresView, StatusView, UncheckedView};
use crate::api::{explain, modules, testing};
use crate::cli::screen::plain;
use crate::model::testing::{host, peer, vm};
use crate::model::{ActionId, Link, Maintenance, Side, Timestamp, VmState, World};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use std::collections::BTreeMap;
use std::time::Duration;

/// A daemon with so many hosts.
struct Fleet {
    world: World,
    looks: u64,
    armed: bool,
}

impl Fleet {
    /// The first host is in maintenance, the second is down where there are more than two; one guest has crashed.
    fn new(hosts: u128, guests_each: u128) -> Fleet {
        let mut world = World::new("home");
        for number in 1..=hosts {
            let mut one = host(&format!("host-{number:03}"));
            one.site = if number % 2 == 0 { "north".into() } else { "south".into() };
            one.load.cpu_cores = (number * 37 % 80) as f32 / 10.0;
            one.load.memory_used_mib = (number * 53 % 32_768) as f32 * 7.0 % 32_768.0;
            if number == 1 {
                one.maintenance = Maintenance::On(Timestamp(testing::NOW.0 - 60_000));
            }
            if number == 2 && hosts > 2 {
                one.link = Link::Down("connection refused".into());
            }
            world.put_host(one);
            for guest in 1..=guests_each {
                let id = number * 1_000 + guest;
                let mut one = vm(id, &format!("web-{number}-{guest}"), &format!("host-{number:03}"));
                one.load.cpu_cores = Some((id * 41 % 200) as f32 / 100.0);
                one.load.memory_used_mib = Some((id * 17 % 2_048) as f32);
                if (number, guest) == (1, 2) {
                    one.state = VmState::Crashed;
                }
                world.put_vm(one);
            }
        }
        Fleet { world, looks: 0, armed: true }
    }

    fn status(&self) -> StatusView {
        let (mut guests, mut down) = (BTreeMap::new(), Vec::new());
        for vm in self.world.vms() {
            *guests.entry(vm.state.to_string()).or_default() += 1;
        }
        for host in self.world.hosts() {
            if let Link::Down(reason) = &host.link {
                down.push(DownView { host: host.id.to_string(), reason: Some(reason.clone()) });
            }
        }
        let now = Timestamp(testing::NOW.0 + i64::try_from(self.looks).unwrap() * 1_000);
        let mut figures = FiguresView::default();
        (figures.so_far.events, figures.so_far.done, figures.so_far.refused) = (self.looks * 120, 7, 3);
        figures.waiting = 4;
        StatusView {
            plane: "home".to_owned(),
            version: "0.0.0".to_owned(),
            now: now.into(),
            armed: self.armed,
            starting: false,
            hosts: self.world.hosts().count(),
            hosts_down: down,
            hosts_in_maintenance: vec!["host-001".to_owned()],
            guests,
            guests_by_mode: BTreeMap::new(),
            guests_crashed: crate::api::status::crashed(&self.world),
            modules: 1,
            modules_unchecked: vec![UncheckedView {
                module: "keep-apart".to_owned(),
                file: "keep-apart.yaml".to_owned(),
                in_force: true,
            }],
            embots: 3,
            embots_suspended: vec!["relieve-hot-host@host:host-a".to_owned()],
            advised: 1,
            open: 1,
            violations: Vec::new(),
            channels_away: Vec::new(),
            figures,
            store: None,
        }
    }

    /// One migration from the first host to the second, and one piece of advice.
    fn plan(&self) -> PlanView {
        let manager = testing::manager();
        let view = |id| ActionView::new(manager.action(ActionId(id)).unwrap(), &manager.world());
        let (mut open, advised) = (view(17), view(18));
        open.what = "migrate web-1-1 host-001 -> host-002".to_owned();
        (open.host, open.destination) = (Some("host-001".to_owned()), Some("host-002".to_owned()));
        let refused = RefusalView::new(Some(testing::NOW), &testing::refusal(), 3, &testing::world());
        PlanView {
            armed: self.armed,
            open: vec![open],
            advised: vec![advised],
            refused: vec![RefusalView { number: Some(4), ..refused }],
            violations: Vec::new(),
        }
    }

    fn elements<T>(&self, filter: Option<ElementFilter>, pick: fn(ElementView) -> Option<T>) -> Option<Window<T>> {
        let filter = filter?;
        let found = elements::list(&self.world, &filter).unwrap();
        Some(Window { rows: found.into_iter().filter_map(pick).collect(), filter })
    }

    fn page(&self, target: &Target) -> Result<Content, String> {
        let manager = testing::manager();
        let embots = || manager.embots(None);
        match target {
            Target::Host(name) => {
                let id = name.as_str().into();
                let host = self.world.host(&id).ok_or("there is no such host")?;
                Ok(Content::Element(Box::new(ElementDetail {
                    element: ElementView::Host(HostView::new(host, &self.world)),
                    guests: self.world.vms_on(&id).map(|vm| VmView::new(vm, &self.world)).collect(),
                    embots: Vec::new(),
                    actions: self.plan().open,
                    refusals: self.plan().refused,
                })))
            }
            Target::Guest(id) => {
                let vm = self.world.vms().find(|vm| vm.id.to_string() == *id).ok_or("there is no such guest")?;
                Ok(Content::Element(Box::new(ElementDetail {
                    element: ElementView::Vm(Box::new(VmView::new(vm, &self.world))),
                    guests: Vec::new(),
                    embots: embots().iter().map(EmbotView::new).collect(),
                    actions: Vec::new(),
                    refusals: Vec::new(),
                })))
            }
            Target::Action(id) => {
                let explanation = explain::explain(&manager, ActionId(*id), &[]).map_err(|error| error.problem.error)?;
                Ok(Content::Action(Box::new(explanation)))
            }
            Target::Refusal(_) => Err("there is no refusal r4 at hand".to_owned()),
            Target::Embot(_) => {
                let embot = embots().iter().map(EmbotView::new).find(|embot| embot.suspended.is_some()).unwrap();
                Ok(Content::Embot(Box::new(embot), Box::new(modules::detail(&manager.modules()[0]))))
            }
            Target::Migration(_) => Ok(Content::Migration(Box::new(self.migration()))),
        }
    }

    fn migration(&self) -> MigrationView {
        let phase = |word: &str| PhaseView { phase: word.to_owned(), at: testing::NOW.into() };
        MigrationView {
            id: "home/41".to_owned(),
            side: Side::Source,
            from: "home".to_owned(),
            to: "site-b".to_owned(),
            vm: testing::id(3).to_string(),
            name: "web-1-3".to_owned(),
            host: "host-001".to_owned(),
            live: true,
            state: "underway".to_owned(),
            reason: None,
            phases: vec![phase("offered"), phase("moving")],
            sent_bytes: 40 << 20,
            total_bytes: 100 << 20,
            held: 3,
            cancellable: true,
            remaining_s: Some(12.0),
        }
    }

    fn answer(&mut self, want: Want) -> Picture {
        self.looks += 1;
        let manager = testing::manager();
        let peer = PeerView {
            name: "site-b".to_owned(),
            sends: true,
            receives: true,
            reachable: true,
            address: None,
            summary: peer("site-b").summary,
            summary_at: None,
            clock_ahead_ms: None,
            problem: None,
        };
        Picture {
            status: self.status(),
            plan: self.plan(),
            hosts: self.elements(want.hosts, |element| match element {
                ElementView::Host(host) => Some(host),
                _ => None,
            }),
            guests: self.elements(want.guests, |element| match element {
                ElementView::Vm(vm) => Some(*vm),
                _ => None,
            }),
            suspended: Some(
                manager.embots(None).iter().map(EmbotView::new).filter(|embot| embot.suspended.is_some()).collect(),
            ),
            migrations: Some(vec![self.migration()]),
            peers: Some(PeersView { peers: vec![peer], refused: 0, refusals: Vec::new(), unread: None }),
            trends: want.trends.into_iter().map(|host| (host, (0..60).map(|at| f64::from(at) / 60.0).collect())).collect(),
            page: want.page.map(|target| (target.clone(), self.page(&target))),
            complaint: None,
        }
    }
}

/// `embot top` in front of a fleet.
struct Top {
    state: State,
    fleet: Fleet,
    /// Commands that were given.
    given: Vec<Command>,
    /// Whether it suspended itself, or ended.
    ends: Vec<Effect>,
    looks: usize,
    most_rows: usize,
}

impl Top {
    fn new(fleet: Fleet, width: u16, height: u16) -> Top {
        let state = State::new(plain(80), (width, height), fleet.status());
        let mut top = Top { state, fleet, given: Vec::new(), ends: Vec::new(), looks: 0, most_rows: 0 };
        top.tell(Input::Tick(Duration::ZERO));
        let records = Scribe::new(&testing::world(), std::iter::empty()).read(&testing::a_batch(7));
        top.tell(Input::Records(records));
        top.tell(Input::Tick(Duration::from_secs(1)));
        top
    }

    /// Hands an input in, and answers until nothing more is asked.
    fn tell(&mut self, input: Input) {
        let mut effects = update(&mut self.state, input);
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Fetch(want) => {
                        self.looks += 1;
                        assert!(self.looks < 1_000, "it looks again and again");
                        let picture = self.fleet.answer(want);
                        let rows = picture.guests.as_ref().map_or(0, |guests| guests.rows.len());
                        self.most_rows = self.most_rows.max(rows);
                        next.extend(update(&mut self.state, Input::Picture(Box::new(picture))));
                    }
                    Effect::Command(command) => {
                        let answer = format!("{command:?} is done");
                        self.given.push(command);
                        next.extend(update(&mut self.state, Input::Said(Ok(answer))));
                    }
                    end => self.ends.push(end),
                }
            }
            effects = next;
        }
    }

    fn press(&mut self, code: KeyCode) {
        self.tell(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    /// Types characters; `>` stands for Enter, `<` for Esc, `\t` for Tab, `v` and `^` for the arrows down and up.
    fn keys(&mut self, keys: &str) -> String {
        for key in keys.chars() {
            self.press(match key {
                '>' => KeyCode::Enter,
                '<' => KeyCode::Esc,
                '\t' => KeyCode::Tab,
                'v' => KeyCode::Down,
                '^' => KeyCode::Up,
                other => KeyCode::Char(other),
            });
        }
        self.screen()
    }

    fn terminal(&self) -> Terminal<TestBackend> {
        let (width, height) = self.state.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame.buffer_mut(), &self.state)).unwrap();
        terminal
    }

    /// What is seen; what is selected has a mark, since a text has no colours.
    fn screen(&self) -> String {
        let terminal = self.terminal();
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for y in 0..buffer.area.height {
            let cells = (0..buffer.area.width).map(|x| &buffer[(x, y)]);
            let selected = cells.clone().any(|cell| cell.modifier.contains(Modifier::REVERSED));
            let line: String = cells.map(ratatui::buffer::Cell::symbol).collect();
            text += if selected { ">" } else { "|" };
            text += line.trim_end();
            text += "\n";
        }
        text
    }

    fn last_line(&self) -> String {
        self.screen().lines().last().unwrap_or_default().trim_start_matches('|').to_owned()
    }
}

fn small() -> Fleet {
    Fleet::new(2, 3)
}

#[test]
fn two_hosts_on_80_by_24() {
    let mut top = Top::new(small(), 80, 24);
    let screens = ["", "2", "3", "4", "5", "6", "?"].map(|keys| top.keys(keys));
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn two_hosts_on_200_by_50() {
    insta::assert_snapshot!(Top::new(small(), 200, 50).screen());
}

#[test]
fn five_hundred_hosts_on_80_by_24() {
    let mut top = Top::new(Fleet::new(500, 20), 80, 24);
    let screens = ["", "sss", "G", "2", "sss", "/7-2>"].map(|keys| top.keys(keys));
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn five_hundred_hosts_on_200_by_50() {
    let mut top = Top::new(Fleet::new(500, 20), 200, 50);
    insta::assert_snapshot!([top.screen(), top.keys("\tGvv^")].join("\n"));
}

#[test]
fn pages_open_from_each_other_and_close() {
    let mut top = Top::new(small(), 100, 30);
    let host = top.keys(">");
    let guest = top.keys("v>");
    assert!(guest.contains("Guest web-1-1"), "{guest}");
    assert!(top.keys("<<").contains("Hosts 2"), "back at the hosts");
    let action = top.keys("3v>");
    let embot = top.keys("<5vv>");
    let migration = top.keys("<v>");
    insta::assert_snapshot!([host, action, embot, migration].join("\n"));
    assert!(top.state.pages.len() == 1 && top.given.is_empty());
}

#[test]
fn advice_is_approved_and_rejected_with_a_reason() {
    let mut top = Top::new(small(), 80, 24);
    top.keys("a");
    assert_eq!(top.last_line(), "select an action first");
    top.keys("3a");
    assert_eq!(top.given, [Command::Approve(18)]);
    assert_eq!(top.last_line(), "Approve(18) is done");
    top.keys("r");
    assert_eq!(top.last_line(), "Reject action 18, because: ▏");
    top.keys("not today, q?");
    assert_eq!(top.last_line(), "Reject action 18, because: not today, q?▏");
    top.press(KeyCode::Backspace);
    top.keys(">");
    assert_eq!(top.given[1..], [Command::Reject(18, "not today, q".to_owned())]);
    top.keys("r<");
    assert_eq!((top.last_line().as_str(), top.given.len()), ("nothing was done", 2));
    top.keys(">a");
    assert_eq!(top.given[2..], [Command::Approve(18)], "from its page, too");
    assert!(top.ends.is_empty(), "a q in a reason is a letter");
}

#[test]
fn what_does_harm_is_asked_about_first() {
    let mut top = Top::new(small(), 80, 24);
    top.keys("m");
    assert_eq!(top.last_line(), "Put host host-001 back in service? (y/n)");
    top.keys("n");
    assert!(top.given.is_empty());
    top.keys("vmy");
    assert_eq!(top.given, [Command::Maintenance("host-002".to_owned(), true)]);
    top.keys(">my");
    assert_eq!(top.given[1..], [Command::Maintenance("host-002".to_owned(), true)], "from its page, too");
    top.keys("dy");
    assert_eq!(top.given[2..], [Command::Disarm]);
    top.fleet.armed = false;
    top.tell(Input::Tick(Duration::from_secs(3)));
    assert!(top.screen().contains("disarmed"));
    top.keys("dy");
    assert_eq!(top.given[3..], [Command::Arm]);
    top.keys("\t\tmvc");
    assert_eq!(top.last_line(), "Cancel action 17, migrate web-1-1 host-001 -> host-002? (y/n)");
    top.keys("y");
    assert_eq!(top.given[4..], [Command::Cancel(17)]);
}

#[test]
fn a_plane_that_goes_away_leaves_its_last_picture() {
    let mut top = Top::new(small(), 80, 24);
    let said = "no daemon answers on embot.sock";
    let effects = update(&mut top.state, Input::Tick(Duration::from_secs(5)));
    assert!(matches!(effects[..], [Effect::Fetch(_)]));
    assert_eq!(update(&mut top.state, Input::Tick(Duration::from_secs(6))), [], "one look at a time");
    assert_eq!(update(&mut top.state, Input::NoPicture(said.to_owned())).len(), 1, "asked again, since it is time");
    assert_eq!(update(&mut top.state, Input::NoPicture(said.to_owned())), [], "and then waits");
    assert_eq!(top.last_line(), "no answer for 5s: no daemon answers on embot.sock; asking again");
    let terminal = top.terminal();
    let cell = &terminal.backend().buffer()[(0, 5)];
    assert_eq!((cell.symbol(), cell.modifier.contains(Modifier::DIM)), ("h", true), "the picture is old");
    top.tell(Input::Tick(Duration::from_secs(9)));
    let terminal = top.terminal();
    assert!(!terminal.backend().buffer()[(0, 5)].modifier.contains(Modifier::DIM));
    assert!(top.last_line().starts_with("?: keys"));
}

#[test]
fn no_screen_is_too_small_and_no_number_too_odd() {
    let mut fleet = small();
    let mut odd = host("ein-sehr-langer-name-日本語-für-einen-host-der-nirgends-ganz-hineinpasst");
    (odd.load.cpu_cores, odd.load.memory_used_mib) = (f32::NAN, f32::INFINITY);
    fleet.world.put_host(odd);
    for (width, height) in [(0, 0), (1, 1), (3, 2), (20, 5), (40, 10), (61, 21), (141, 37), (300, 100)] {
        let mut top = Top::new(Fleet { world: fleet.world.clone(), looks: 0, armed: true }, width, height);
        for keys in ["", "2", "3", "4", "5", "6", ">", "v>", "<<1?", "v", "/x", "<"] {
            top.keys(keys);
        }
        assert_eq!(top.screen().lines().count(), usize::from(height));
    }
    let mut top = Top::new(fleet, 40, 10);
    insta::assert_snapshot!([top.screen(), top.keys("r2"), top.keys("3")].join("\n"));
    // A screen that has just shrunk is drawn when the state knows.
    let mut terminal = Terminal::new(TestBackend::new(10, 3)).unwrap();
    terminal.draw(|frame| draw(frame.buffer_mut(), &top.state)).unwrap();
}

#[test]
fn a_large_fleet_is_fetched_in_parts() {
    let mut top = Top::new(Fleet::new(500, 20), 80, 24);
    top.keys("2");
    let screen = top.keys("GG");
    assert!(screen.contains("of 10000"), "{screen}");
    assert!(screen.contains("web-99-9"), "the last by name is in sight:\n{screen}");
    for _ in 0..40 {
        top.press(KeyCode::PageUp);
    }
    let screen = top.screen();
    assert!(!screen.contains("..."), "what is in sight is there:\n{screen}");
    assert!((1..=60).contains(&top.most_rows), "{} guests were fetched at once", top.most_rows);
}

#[test]
fn selections_stay_with_their_guests() {
    let mut top = Top::new(small(), 80, 24);
    top.keys("2vv");
    let name = top.state.selected_guest().unwrap().name.clone();
    top.fleet.world.put_vm(vm(7, "aaa", "host-001"));
    top.tell(Input::Tick(Duration::from_secs(2)));
    assert_eq!(top.state.selected_guest().unwrap().name, name);
}

#[test]
fn colours_are_those_that_every_terminal_has_or_none() {
    let mut top = Top::new(Fleet::new(4, 3), 200, 50);
    let colours = |top: &Top| {
        let terminal = top.terminal();
        let cells = terminal.backend().buffer().content();
        cells.iter().map(|cell| cell.fg).filter(|color| *color != Color::Reset).collect::<Vec<_>>()
    };
    assert!(colours(&top).is_empty());
    top.state.screen.color = true;
    let colours = colours(&top);
    assert!(!colours.is_empty());
    assert!(colours.iter().all(|color| matches!(color, Color::Green | Color::Yellow | Color::Red)), "{colours:?}");
}

#[test]
fn decisions_are_bounded_and_leave_the_noise_out() {
    let mut top = Top::new(small(), 80, 24);
    let mut scribe = Scribe::new(&testing::world(), std::iter::empty());
    let views: Vec<RecordView> = (8..400).flat_map(|seq| scribe.read(&testing::a_batch(seq))).collect();
    top.tell(Input::Records(views));
    assert_eq!(top.state.records.len(), 1_000);
    assert!(top.state.records.values().all(|record| !record.detail && record.record != "event"));
}

#[test]
fn it_ends_and_is_suspended() {
    for (code, modifiers, wanted) in [
        (KeyCode::Char('q'), KeyModifiers::NONE, Effect::Quit),
        (KeyCode::Char('c'), KeyModifiers::CONTROL, Effect::Quit),
        (KeyCode::Char('z'), KeyModifiers::CONTROL, Effect::Suspend),
    ] {
        let mut top = Top::new(small(), 80, 24);
        top.tell(Input::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(top.ends, [wanted]);
    }
}

#[test]
fn an_action_shows_how_far_it_is() {
    let mut top = Top::new(small(), 80, 24);
    assert!(top.keys("3").contains("██▋     44 %"), "{}", top.screen());
    top.state.plan.open[0].progress = Some(ProgressView { done_bytes: 9, total_bytes: 0 });
    assert!(!top.screen().contains('%'), "what cannot be told is not told");
}
