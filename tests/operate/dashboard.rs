//! The dashboard that ships asks for metrics that there are.

use embot::api::metrics::Kind;
use embot::api::metrics::table::METRICS;
use serde_json::Value;
use std::collections::BTreeSet;

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if key == "expr" || (key == "query" && text.contains("embot_")) => found.push(text.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| expressions(one, found)),
        _ => {}
    }
}

#[test]
fn each_expression_names_only_metrics_and_labels_that_there_are() {
    let dashboard: Value = serde_json::from_str(include_str!("../../debian/grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 20, "only {} expressions", found.len());
    let mut named = BTreeSet::new();
    for text in &found {
        let mut metric = None;
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if word.starts_with("embot_") || word.starts_with("process_") {
                let base = METRICS.iter().find(|metric| match metric.kind {
                    Kind::Histogram => {
                        ["_bucket", "_sum", "_count"].iter().any(|part| word.strip_suffix(part) == Some(metric.name))
                    }
                    _ => metric.name == word,
                });
                metric = Some(base.unwrap_or_else(|| panic!("`{text}` asks for {word}, which is no metric")));
                named.insert(metric.map(|metric| metric.name));
            }
        }
        assert!(metric.is_some(), "`{text}` asks for nothing of this program");
        for list in text.split("by (").skip(1).map(|rest| rest.split(')').next().unwrap_or_default()) {
            for label in list.split(',').map(str::trim) {
                let known = label == "le" || label == "instance" || METRICS.iter().any(|metric| metric.labels.contains(&label));
                assert!(known, "`{text}`: there is no label {label}");
            }
        }
    }
    assert!(named.len() * 3 > METRICS.len() * 2, "only {} of {} metrics are shown", named.len(), METRICS.len());
}
