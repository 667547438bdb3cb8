//! `embot elements`: hosts, guests and their parts.

use super::client::segment;
use super::context::Context;
use super::failure::Failure;
use super::plan::{action_table, refusal_table};
use super::screen::{Screen, Tone, percent};
use super::table::{Fit, pairs, table};
use crate::api::elements::{ElementDetail, ElementFilter, ElementView, HostView, PartView, Sort, VmView};
use crate::api::words::bytes;
use std::collections::BTreeMap;

/// Show hosts, guests and their parts.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot elements                    all hosts and guests\n  embot elements --kind vm          guests only\n  embot elements 'web-*'            those whose names match\n  embot elements --kind vm --sort cpu --limit 10     the ten busiest guests\n  embot elements web-3              all about one: load, actions, refusals, embots"
)]
pub struct Elements {
    /// A name, a beginning only one element has, a UUID, or a pattern such as `web-*`.
    name: Option<String>,
    /// Only this kind.
    #[arg(long, value_enum)]
    kind: Option<KindName>,
    /// Hosts and guests in this order; loads come the highest first.
    #[arg(long, value_enum)]
    sort: Option<Sort>,
    /// Without so many of the first.
    #[arg(long, value_name = "COUNT")]
    skip: Option<u32>,
    /// At most so many.
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KindName {
    Plane,
    Host,
    Vm,
    Disk,
    Nic,
}

impl From<KindName> for crate::model::Kind {
    fn from(kind: KindName) -> crate::model::Kind {
        match kind {
            KindName::Plane => crate::model::Kind::Plane,
            KindName::Host => crate::model::Kind::Host,
            KindName::Vm => crate::model::Kind::Vm,
            KindName::Disk => crate::model::Kind::Disk,
            KindName::Nic => crate::model::Kind::Nic,
        }
    }
}

impl Elements {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let pattern = |name: &str| name.contains(['*', '?', '[', '{']);
        let several = self.kind.is_some() || self.sort.is_some() || self.skip.is_some() || self.limit.is_some();
        match self.name {
            Some(name) if !several && !pattern(&name) => {
                let detail: ElementDetail = client.get(&format!("/v1/elements/{}", segment(&name))).await?;
                context.show(&detail, |screen| render_detail(&detail, screen))
            }
            name => {
                let (sort, skip, limit) = (self.sort, self.skip, self.limit);
                let filter = ElementFilter { kind: self.kind.map(Into::into), name, sort, skip, limit };
                let found: Vec<ElementView> = client.find("/v1/elements", &filter).await?;
                context.show(&found, |screen| render(&found, screen))
            }
        }
    }
}

fn render(elements: &[ElementView], screen: &Screen) -> String {
    let (mut hosts, mut guests, mut parts, mut text) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for element in elements {
        match element {
            ElementView::Plane { name } => text += &format!("plane {name}\n"),
            ElementView::Host(host) => hosts.push(host),
            ElementView::Vm(vm) => guests.push(&**vm),
            ElementView::Disk(part) | ElementView::Nic(part) | ElementView::App(part) => parts.push(part),
        }
    }
    let tables = [host_table(&hosts, screen), guest_table(&guests, screen), part_table(&parts, screen)];
    let tables: Vec<String> = tables.into_iter().filter(|table| !table.is_empty()).collect();
    text += &tables.join("\n");
    if text.is_empty() { "nothing matches\n".to_owned() } else { text }
}

/// A host's state in one word.
pub fn host_state(host: &HostView) -> &str {
    match &*host.link {
        "up" if host.maintenance_since.is_some() => "maintenance",
        "up" if host.asleep == Some(true) => "asleep",
        link => link,
    }
}

fn host_table(hosts: &[&HostView], screen: &Screen) -> String {
    let sites = hosts.iter().any(|host| !host.site.is_empty());
    let mut columns =
        vec![("HOST", Fit::Keep), ("STATE", Fit::State), ("CPU", Fit::Right), ("MEMORY", Fit::Right), ("GUESTS", Fit::Right)];
    if sites {
        columns.insert(1, ("SITE", Fit::Keep));
    }
    columns.push(("", Fit::Cut));
    let row = |host: &&HostView| {
        let mut row = vec![
            host.name.clone(),
            host_state(host).to_owned(),
            format!("{} of {}", percent(host.cpu), host.cpus),
            format!("{} of {}", percent(host.memory), bytes(host.memory_mib << 20)),
            host.guests.to_string(),
            host.link_reason.clone().unwrap_or_default(),
        ];
        if sites {
            row.insert(1, host.site.clone());
        }
        row
    };
    table(&columns, hosts.iter().map(row).collect(), screen)
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), percent)
}

fn guest_table(guests: &[&VmView], screen: &Screen) -> String {
    let columns = [
        ("GUEST", Fit::Keep),
        ("HOST", Fit::Keep),
        ("STATE", Fit::State),
        ("MODE", Fit::State),
        ("CPU", Fit::Right),
        ("MEMORY", Fit::Right),
        ("ACTION", Fit::Right),
    ];
    let row = |vm: &&VmView| {
        vec![
            vm.name.clone(),
            vm.host.clone(),
            vm.state.clone(),
            vm.mode.clone(),
            share(vm.cpu),
            share(vm.memory),
            vm.action.map_or_else(String::new, |action| action.to_string()),
        ]
    };
    table(&columns, guests.iter().map(row).collect(), screen)
}

fn part_table(parts: &[&PartView], screen: &Screen) -> String {
    let row = |part: &&PartView| vec![part.name.clone(), part.vm.clone(), part.element.clone()];
    table(&[("PART", Fit::Keep), ("GUEST", Fit::Keep), ("ELEMENT", Fit::Cut)], parts.iter().map(row).collect(), screen)
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

fn host_rows<'a>(host: &HostView, screen: &Screen) -> Vec<(&'a str, String)> {
    let mut rows = vec![("host", host.name.clone())];
    let reason = host.link_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let maintenance =
        host.maintenance_since.map(|since| format!(", in maintenance since {}", screen.date(since))).unwrap_or_default();
    let asleep = if host.asleep == Some(true) { ", asleep" } else { "" };
    rows.push(("state", format!("{}{reason}{asleep}{maintenance}", host.link)));
    rows.push(("cpu", format!("{} of {} cores", percent(host.cpu), host.cpus)));
    rows.push(("memory", format!("{} of {}", percent(host.memory), bytes(host.memory_mib << 20))));
    if !host.site.is_empty() {
        rows.push(("site", host.site.clone()));
    }
    if !host.labels.is_empty() {
        rows.push(("labels", labels(&host.labels)));
    }
    rows
}

fn guest_rows<'a>(vm: &VmView, screen: &Screen) -> Vec<(&'a str, String)> {
    let mut rows = vec![("guest", format!("{} ({})", vm.name, vm.id)), ("host", vm.host.clone())];
    rows.push(("state", format!("{} ({}) since {}", vm.state, vm.reason, screen.date(vm.since))));
    let owner = match (&vm.owner, vm.epoch) {
        (Some(owner), Some(epoch)) => format!("plane {owner}, epoch {epoch}"),
        _ => "nobody (`embot manage` puts the plane's mark on it)".to_owned(),
    };
    rows.push(("mode", format!("{}, owned by {owner}", vm.mode)));
    rows.push(("cpu", format!("{} of {} vcpus", share(vm.cpu), vm.vcpus)));
    let memory = format!("{} of {}", share(vm.memory), bytes(vm.balloon_mib << 20));
    rows.push(("memory", format!("{memory} held, {} at the most", bytes(vm.memory_mib << 20))));
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", bytes(rate.max(0.0) as u64)));
    rows.push(("i/o", format!("disk {}, network {}", rate(vm.disk_bytes_per_s), rate(vm.net_bytes_per_s))));
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let flags = format!("autostart {}, persistent {}, agent {}", yes(vm.autostart), yes(vm.persistent), yes(vm.agent));
    rows.push(("set up", flags));
    let parts: Vec<&str> = vm.disks.iter().chain(&vm.nics).map(String::as_str).collect();
    if !parts.is_empty() {
        rows.push(("parts", parts.join(", ")));
    }
    if !vm.labels.is_empty() {
        rows.push(("labels", labels(&vm.labels)));
    }
    rows
}

/// What is known of an element itself.
pub fn facts(element: &ElementView, screen: &Screen) -> String {
    let rows = match element {
        ElementView::Plane { name } => vec![("plane", name.clone())],
        ElementView::Host(host) => host_rows(host, screen),
        ElementView::Vm(vm) => guest_rows(vm, screen),
        ElementView::Disk(part) | ElementView::Nic(part) | ElementView::App(part) => {
            vec![("part", part.name.clone()), ("guest", part.vm.clone()), ("element", part.element.clone())]
        }
    };
    pairs(&rows, screen)
}

fn render_detail(detail: &ElementDetail, screen: &Screen) -> String {
    let mut text = facts(&detail.element, screen);
    let embot_rows = detail.embots.iter().map(|embot| {
        let state = if embot.suspended.is_some() { "suspended" } else { "works" };
        vec![embot.module.clone(), state.to_owned(), embot.suspended.clone().unwrap_or_default()]
    });
    let columns = [("EMBOT OF", Fit::Keep), ("STATE", Fit::State), ("", Fit::Cut)];
    let sections = [
        guest_table(&detail.guests.iter().collect::<Vec<_>>(), screen),
        table(&columns, embot_rows.collect(), screen),
        action_table(&detail.actions, screen),
        refusal_table(&detail.refusals, screen),
    ];
    for section in sections.iter().filter(|section| !section.is_empty()) {
        text += "\n";
        text += section;
    }
    if let Some(action) = detail.actions.first() {
        text += &screen.paint(Tone::Faint, &format!("\nWhy? `embot explain {}`\n", action.id));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::actions::RefusalView;
    use crate::api::{elements, testing};
    use crate::cli::screen::plain;

    #[test]
    fn elements_as_tables() {
        let world = testing::world();
        let all = elements::list(&world, &ElementFilter::default()).unwrap();
        let disks = elements::list(
            &world,
            &ElementFilter { kind: Some(crate::model::Kind::Disk), name: Some("web-*".into()), ..ElementFilter::default() },
        );
        let none = elements::list(&world, &ElementFilter { name: Some("x*".into()), ..ElementFilter::default() }).unwrap();
        let texts = [render(&all, &plain(80)), render(&disks.unwrap(), &plain(80)), render(&none, &plain(80))];
        insta::assert_snapshot!(texts.join("---\n"));
    }

    #[test]
    fn all_about_one() {
        let manager = testing::manager();
        let texts = ["web-3", "host-a", "web-1/vda", "db-1"].map(|name| {
            let mut detail = elements::detail(&manager, name).unwrap();
            if name == "host-a" {
                detail.refusals = vec![RefusalView::new(Some(testing::NOW), &testing::refusal(), 3, &testing::world())];
            }
            render_detail(&detail, &plain(90))
        });
        insta::assert_snapshot!(texts.join("---\n"));
    }
}
