//! What admins put under management, and what must not be.

use crate::kit::{self, Plane, must};
use embot::hypervisor::simulated::Fleet;
use embot::manager::Output;
use embot::model::{ActionKind, Command, Input, Mode, Reason, Reply, Span, Timestamp, VmState};
use embot::simulate::Simulation;
use embot::store::Recovered;

const FLEET: &str = "
hosts: [{ name: 'host-{n}', count: 2, cpus: 8, memory_mib: 16384 }]
guests: [{ name: 'guest-{n}', count: 4, memory_mib: 1024 }]
";

#[test]
fn a_guest_that_runs_on_two_hosts_is_not_put_under_management() {
    let plan = kit::fleet(FLEET);
    let mut fleet = Fleet::new(&plan, Timestamp(0)).unwrap();
    let mut manager = Plane { observes: true, ..Plane::default() }.manager(&fleet, Recovered::nothing());
    let hosts = ["host-1", "host-2"];
    let reports = hosts.map(|host| fleet.report(&host.into(), Timestamp(1_000), None).unwrap().0);
    let all = hosts.into_iter().zip(reports.clone()).map(|(host, report)| Input::Report(host.into(), report));
    manager.turn(all.collect(), Timestamp(1_000));
    // The other host runs one of them as well, as after a fail-over by somebody else.
    let [first, mut second] = reports;
    let mut twin = first.domains[0].clone();
    (twin.state, twin.reason) = (VmState::Running, Reason::Booted);
    let vm = twin.vm;
    second.asked_at = Timestamp(2_000);
    second.domains.push(twin);
    let mut ask = |inputs: Vec<Input>, command: Command, at: i64| {
        let ask = Input::Command { command, by: "ada".into(), ticket: Some(embot::model::Ticket(1)) };
        manager.turn(inputs, Timestamp(at - 1));
        let (_, outputs) = manager.turn(vec![ask], Timestamp(at)).unwrap();
        let reply = outputs.into_iter().find_map(|output| match output {
            Output::Reply(_, reply) => Some(reply),
            _ => None,
        });
        (reply.unwrap(), manager.world().vm(vm).unwrap().mode)
    };
    let manage = || Command::Manage { vms: vec![vm], mode: Mode::Act };
    let stop = Command::Act { kind: ActionKind::Shutdown { vm, force_after: None }, reason: "it is late".into() };
    let report = vec![Input::Report("host-2".into(), second.clone())];
    for (reports, command) in [(report, manage()), (Vec::new(), stop)] {
        let (reply, mode) = ask(reports, command, 2_000);
        assert!(matches!(&reply, Reply::Refused { reason } if reason.contains("runs on host-2 as well")), "{reply:?}");
        assert_eq!(mode, Mode::Observe);
    }
    second.asked_at = Timestamp(3_000);
    second.domains.pop();
    let (reply, mode) = ask(vec![Input::Report("host-2".into(), second)], manage(), 3_000);
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    assert_eq!(mode, Mode::Act);
}

#[test]
fn all_guests_at_once_are_marked_by_one_decision() {
    let mut simulation = Plane { observes: true, ..Plane::default() }.over(&kit::fleet(FLEET));
    simulation.run_for(Span::seconds(10)).unwrap();
    let message = must(&mut simulation, Command::Manage { vms: Vec::new(), mode: Mode::Act });
    assert_eq!(message, "4 guests are in mode act");
    simulation.run_for(Span::seconds(10)).unwrap();
    assert_eq!(simulation.fleet().guests().filter(|guest| guest.description.mark.is_some()).count(), 4);
    assert!(simulation.manager(0).world().vms().all(|vm| vm.mode == Mode::Act));
}

#[test]
fn who_empties_a_host_in_maintenance_is_said() {
    let mut simulation = Plane::default().over(&kit::fleet(FLEET));
    simulation.run_for(Span::seconds(5)).unwrap();
    let say = |simulation: &mut Simulation| {
        let [on, _] = [true, false].map(|on| must(simulation, Command::Maintenance { host: "host-1".into(), on }));
        on.split_once("there; ").map(|(_, rest)| rest.to_owned()).unwrap()
    };
    assert_eq!(
        say(&mut simulation),
        "what runs there stays: no module that is loaded moves guests away (evacuate-maintenance does)"
    );
    let manifest = "module: empty\nversion: '1'\npolicies: [empty.rhai]\ncovers: { each: host }\npermits: [migrate]\n";
    must(&mut simulation, kit::module(manifest, &[("empty.rhai", "fn on_maintenance() {}")]));
    for (mode, said) in [
        (Mode::Observe, "what runs there stays: module empty only observes; `embot modules mode empty act` lets it act"),
        (
            Mode::Advise,
            "module empty only advises: `embot plan` shows what waits for your approval, `embot modules mode empty act` lets it act",
        ),
        (Mode::Act, "module empty moves away what runs there"),
    ] {
        must(&mut simulation, Command::ModuleMode { module: "empty".into(), mode });
        assert_eq!(say(&mut simulation), said);
    }
}
