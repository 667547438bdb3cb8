//! The walk over all states.

use crate::chart::chart;
use crate::intern::{Map, Quick};
use crate::planes::{Setting, Tables};
use crate::steps::{Event, KINDS, Step};
use crate::world::World;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::time::Instant;

/// How a state was reached first.
struct From {
    parent: u32,
    step: Step,
    /// The kinds of the faults on the way, in order.
    faults: [u8; 3],
}

/// Visits all states with so many faults, and panics at the first bad one.
pub fn explore(setting: &Setting, faults: u8) {
    let started = Instant::now();
    let bound = std::env::var("EMBOT_EXPLORER_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let mut tables = Tables::new();
    let first = World::new(setting, &mut tables, faults);
    let begin = Step { event: Event::Begin, crash: None };
    let begun = first.after(begin, setting, &mut tables, &mut Vec::new()).expect("it begins");

    // A state is known again by its fingerprint of 64 bits: of three million, two are mistaken for one once in four million runs.
    let hasher = BuildHasherDefault::<Quick>::default();
    let mut seen: Map<u64, u32> = Map::default();
    seen.insert(hasher.hash_one(&begun), 0);
    let mut from = vec![From { parent: 0, step: begin, faults: [0; 3] }];
    // Edges without a fault, backwards, to see that a good end can be reached from everywhere.
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut ends: Vec<u32> = Vec::new();
    let mut combinations: BTreeSet<[u8; 3]> = BTreeSet::new();
    let mut struck = [0usize; 3];
    let mut singles = [0usize; KINDS.len()];
    let mut transitions = 0usize;
    let mut layer = vec![(0u32, begun)];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for (number, world) in layer {
            let steps = world.steps(&tables);
            if steps.iter().all(|step| step.kind() != 0) {
                if let Err(wrong) = world.is_settled(setting, &tables) {
                    fail(setting, &mut tables, &first, &from, number, None, &wrong);
                }
                ends.push(number);
            } else if world.is_crippled() && world.is_settled(setting, &tables).is_ok() {
                // What is left is tried for ever on a host that never comes back.
                ends.push(number);
            }
            for step in steps {
                transitions += 1;
                let after = match world.after(step, setting, &mut tables, &mut Vec::new()) {
                    Ok(after) => after,
                    Err(wrong) => fail(setting, &mut tables, &first, &from, number, Some(step), &wrong),
                };
                let key = hasher.hash_one(&after);
                let found = seen.get(&key).copied();
                let to = found.unwrap_or(from.len() as u32);
                let mut faults = from[number as usize].faults;
                if step.kind() == 0 {
                    edges.push((to, number));
                } else {
                    let before = faults.iter().filter(|kind| **kind != 0).count();
                    faults[before] = step.kind();
                    struck[before] += 1;
                    singles[usize::from(step.kind())] += usize::from(before == 0);
                    combinations.insert(faults);
                }
                if found.is_none() {
                    seen.insert(key, to);
                    from.push(From { parent: number, step, faults });
                    next.push((to, after));
                }
            }
        }
        layer = next;
        if std::env::var("EMBOT_EXPLORER_SHOW").is_ok() {
            println!("{} states, {} in the next layer, {:.1} s", from.len(), layer.len(), started.elapsed().as_secs_f64());
        }
        if from.len() > bound {
            println!("{}: stopped at {} states", setting.name, from.len());
            if std::env::var("EMBOT_EXPLORER_SHOW").is_ok() {
                fail(setting, &mut tables, &first, &from, from.len() as u32 - 1, None, "the last state");
            }
            return;
        }
    }
    if let Some(number) = stuck(from.len(), &mut edges, &ends) {
        fail(
            setting,
            &mut tables,
            &first,
            &from,
            number,
            None,
            "from here no end is ever reached, though nothing fails any more",
        );
    }
    let alone: Vec<String> =
        singles.iter().zip(KINDS).filter(|(count, _)| **count > 0).map(|(n, kind)| format!("{kind} {n}")).collect();
    println!(
        "\n{}: {} states ({} of the source's plane, {} of the target's), {transitions} transitions, {} good ends, {:.1} s\n  faults \
         struck alone {} times, after another {} times, after two {} times; {} combinations of kinds\n  alone: {}",
        setting.name,
        from.len(),
        tables.source_planes.len(),
        tables.target_planes.len(),
        ends.len(),
        started.elapsed().as_secs_f64(),
        struck[0],
        struck[1],
        struck[2],
        combinations.len(),
        alone.join(", ")
    );
}

/// A state from which no end is reached, the nearest to the beginning.
fn stuck(states: usize, edges: &mut [(u32, u32)], ends: &[u32]) -> Option<u32> {
    edges.sort_unstable();
    let mut reaches = vec![false; states];
    let mut open = ends.to_vec();
    while let Some(number) = open.pop() {
        if std::mem::replace(&mut reaches[number as usize], true) {
            continue;
        }
        let at = edges.partition_point(|(to, _)| *to < number);
        open.extend(edges[at..].iter().take_while(|(to, _)| *to == number).map(|(_, from)| *from));
    }
    reaches.iter().position(|reaches| !reaches).map(|number| number as u32)
}

fn fail(
    setting: &Setting,
    tables: &mut Tables,
    first: &World,
    from: &[From],
    number: u32,
    last: Option<Step>,
    wrong: &str,
) -> ! {
    let mut steps: Vec<Step> = last.into_iter().collect();
    let mut number = number;
    while number != 0 {
        let From { parent, step, .. } = &from[number as usize];
        steps.push(*step);
        number = *parent;
    }
    steps.push(from[0].step);
    steps.reverse();
    let bad = steps.len();
    if last.is_none() {
        // Where it is stuck, some of what goes on there says more.
        let mut world = first.clone();
        for step in &steps {
            world = world.after(*step, setting, tables, &mut Vec::new()).expect("it was so before");
        }
        for _ in 0..30 {
            let Some(step) = world.steps(tables).into_iter().find(|step| step.kind() == 0) else { break };
            steps.push(step);
            let Ok(next) = world.after(step, setting, tables, &mut Vec::new()) else { break };
            world = next;
        }
    }
    panic!("{}: {wrong}\n\n{}", setting.name, chart(setting, tables, first, &steps, bad));
}
