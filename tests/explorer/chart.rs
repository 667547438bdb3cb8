//! A run as text: one line for each thing that happened, with where both machines and hosts then stand.

use crate::hosts::Domain;
use crate::planes::{Setting, Tables};
use crate::steps::{Event, Step};
use crate::world::World;
use std::fmt::Write;

fn domain(domain: &Option<Domain>) -> String {
    match domain {
        None => "-".to_owned(),
        Some(domain) => {
            let owner = if domain.mark.is_target { "t" } else { "s" };
            format!("{:?} {owner}{}", domain.activity, domain.mark.epoch).to_lowercase()
        }
    }
}

/// The steps from the beginning, one after the other; the state after the step number `bad` is the bad one.
pub fn chart(setting: &Setting, tables: &mut Tables, first: &World, steps: &[Step], bad: usize) -> String {
    let mut text = format!("{:<13} {:<12} | {:<12} {:<12} | what happened\n", "source", "target", "guest at s", "guest at t");
    let mut world = first.clone();
    for (number, step) in steps.iter().enumerate() {
        if number == bad {
            text.push_str("^^ this is the state; how it may go on:\n");
        }
        let mut said = Vec::new();
        let what = match &step.event {
            Event::Deliver { to_target } => {
                let queue = if *to_target { &world.to_target } else { &world.to_source };
                let message = queue.first().map(|message| format!("{:?}", tables.messages.get(*message)));
                format!("{} {}", if *to_target { "-->" } else { "<--" }, short(&message.unwrap_or_default()))
            }
            Event::DeliverAstray(index) => {
                let (to_target, message) = world.astray[usize::from(*index)];
                let message = format!("{:?}", tables.messages.get(message));
                format!("{} (astray) {}", if to_target { "-->" } else { "<--" }, short(&message))
            }
            Event::Carry { at_target } => {
                let (source, target) = (tables.source_planes.get(world.source), tables.target_planes.get(world.target));
                let orders = if *at_target { &target.orders } else { &source.orders };
                let order = orders.first().map(|(_, order)| format!("{:?}", tables.orders.get(*order)));
                format!("{} host: {}", if *at_target { "target's" } else { "source's" }, short(&order.unwrap_or_default()))
            }
            other => format!("{other:?}"),
        };
        let after = world.after(*step, setting, tables, &mut said);
        let (next, wrong) = match after {
            Ok(next) => (next, None),
            Err(wrong) => (world.clone(), Some(wrong)),
        };
        let (at_source, at_target) = (tables.source_planes.get(next.source), tables.target_planes.get(next.target));
        let source = tables.sources.get(at_source.machine);
        let target = at_target.machine.map(|machine| tables.targets.get(machine));
        let crash = step.crash.map(|crash| format!("  ** CRASH {crash:?} the write")).unwrap_or_default();
        let fault = if step.kind() != 0 && step.crash.is_none() { "  ** FAULT" } else { "" };
        let up = |is_up: bool| if is_up { "" } else { "!" };
        let _ = writeln!(
            text,
            "{:<13} {:<12} | {:<12} {:<12} | {what}{crash}{fault}{}",
            format!("{}{}", source.phase.name(), up(at_source.is_up)),
            format!("{}{}", target.map_or("", |target| target.phase.name()), up(at_target.is_up)),
            format!("{}{}", domain(&next.hosts.source), up(next.hosts.source_answers)),
            format!("{}{}", domain(&next.hosts.target), up(next.hosts.target_answers)),
            if said.is_empty() {
                String::new()
            } else {
                format!(
                    "   says {}",
                    said.iter().map(|each| short(&format!("{:?}", tables.messages.get(*each)))).collect::<Vec<_>>().join(", ")
                )
            },
        );
        if let Some(wrong) = wrong {
            let _ = writeln!(text, "{:<54} ^^ {wrong}", "");
            break;
        }
        world = next;
    }
    text
}

fn short(text: &str) -> String {
    text.chars().take(70).collect::<String>().replace('\n', " ")
}
