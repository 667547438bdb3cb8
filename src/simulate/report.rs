//! A report of runs as one HTML file without anything from elsewhere, to be sent to a colleague.

use super::scenario::Outcome;
use crate::hypervisor::simulated::Point;
use std::fmt::Write;

/// Points of a plot; where there are more, neighbours are averaged.
const MOST: usize = 600;
/// The size of a plot, in its own units.
const SIZE: (f64, f64) = (860.0, 200.0);
/// Colours that people with the common kinds of colour blindness tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:900px;color:#222}\
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}\
th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}\
svg{width:100%;height:auto;background:#fafafa;border:1px solid #eee}figure{margin:1.5em 0}figcaption{font-weight:600}\
.bad{color:#b00020}pre{background:#f6f6f6;padding:.6em;overflow:auto}";

/// What is plotted over time: its title, its unit, and how it is read off.
type Curve = (&'static str, &'static str, fn(&Point) -> f64);

const CURVES: [Curve; 5] = [
    ("Power", "W", |point| point.watts),
    ("Hosts that are on", "", |point| f64::from(point.hosts_on)),
    ("Cores wanted", "", |point| point.wanted),
    ("Cores wanted and not given", "", |point| (point.wanted - point.given).max(0.0)),
    ("Migrations begun since the point before", "", |point| point.migrations as f64),
];

/// A column of the table of figures.
type Column = (&'static str, fn(&Outcome) -> String);

const COLUMNS: [Column; 11] = [
    ("energy, kWh", |run| format!("{:.3}", run.figures.energy_kwh)),
    ("migrations", |run| run.figures.migrations.to_string()),
    ("SLATAH, %", |run| format!("{:.3}", run.figures.slatah * 100.0)),
    ("PDM, %", |run| format!("{:.4}", run.figures.pdm * 100.0)),
    ("SLAV, 1e-5", |run| format!("{:.4}", run.figures.slav * 1e5)),
    ("overall SLA, %", |run| format!("{:.4}", run.figures.overall_sla * 100.0)),
    ("host shutdowns", |run| run.figures.host_shutdowns.to_string()),
    ("decisions", |run| run.decisions.to_string()),
    ("refused", |run| run.refused.to_string()),
    ("step, µs", |run| format!("{:.1}", run.step_us)),
    ("time, s", |run| format!("{:.2}", run.wall_s)),
];

/// The report.
pub fn html(runs: &[Outcome]) -> String {
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>embot simulate</title>");
    // Writing to a text never fails.
    let _ = write!(page, "<style>{STYLE}</style></head><body><h1>Simulation</h1>");
    page.push_str("<table><tr><th>run</th>");
    for (title, _) in COLUMNS {
        let _ = write!(page, "<th>{title}</th>");
    }
    page.push_str("</tr>");
    for run in runs {
        let _ = write!(page, "<tr><td>{}</td>", escaped(&name(run)));
        for (_, figure) in COLUMNS {
            let _ = write!(page, "<td>{}</td>", figure(run));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
    for run in runs.iter().filter(|run| !run.unmet.is_empty()) {
        let _ = write!(page, "<h2 class=\"bad\">{}: not as expected</h2>", escaped(&name(run)));
        for unmet in &run.unmet {
            let _ =
                write!(page, "<pre>{}\n{}</pre>", escaped(&unmet.failure.error.to_string()), escaped(&unmet.told.join("\n")));
        }
    }
    for (title, unit, read) in CURVES {
        plot(&mut page, title, unit, runs, read);
    }
    for run in runs.iter().filter(|run| !run.refusals.is_empty()) {
        let _ =
            write!(page, "<h2>{}: refused proposals</h2><table><tr><th>guardrail</th><th>times</th></tr>", escaped(&name(run)));
        for (guardrail, count) in &run.refusals {
            let _ = write!(page, "<tr><td>{}</td><td>{count}</td></tr>", escaped(guardrail));
        }
        page.push_str("</table>");
    }
    page.push_str("</body></html>\n");
    page
}

/// What tells a run from the others.
fn name(run: &Outcome) -> String {
    let settings: String = run.settings.iter().map(|(setting, value)| format!(", {setting} = {value}")).collect();
    format!("{}: {}{settings}, seed {}", run.scenario, run.module, run.seed)
}

fn plot(page: &mut String, title: &str, unit: &str, runs: &[Outcome], read: fn(&Point) -> f64) {
    let curves: Vec<Vec<(f64, f64)>> = runs.iter().map(|run| thinned(&run.series, read)).collect();
    let hours = curves.iter().flatten().map(|(hour, _)| *hour).fold(0.0, f64::max);
    let top = curves.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    if hours <= 0.0 || top <= 0.0 {
        return;
    }
    let (width, height) = SIZE;
    let _ = write!(page, "<figure><figcaption>{title}, up to {top:.1} {unit}; {hours:.1} h</figcaption>");
    let _ = write!(page, "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">");
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let place =
            |(hour, value): &(f64, f64)| format!("{:.1},{:.1}", hour / hours * width, height - value / top * (height - 4.0));
        let points: Vec<String> = curve.iter().map(place).collect();
        let _ =
            write!(page, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>", points.join(" "));
    }
    page.push_str("</svg>");
    if runs.len() > 1 {
        for (run, colour) in runs.iter().zip(COLOURS.iter().cycle()) {
            let _ = write!(page, "<span style=\"color:{colour}\">&#9632;</span> {} ", escaped(&name(run)));
        }
    }
    page.push_str("</figure>");
}

/// Hours since the first point, and the values.
fn thinned(series: &[Point], read: fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let Some(first) = series.first() else { return Vec::new() };
    let of = |group: &[Point]| {
        let mean = group.iter().map(read).sum::<f64>() / group.len() as f64;
        (group[0].at.since(first.at).as_seconds() / 3_600.0, mean)
    };
    series.chunks(series.len().div_ceil(MOST).max(1)).map(of).collect()
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}
