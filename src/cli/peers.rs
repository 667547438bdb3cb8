//! `embot peers`: the other planes, what they have to give, and who was turned away.

use super::context::Context;
use super::failure::Failure;
use super::screen::Screen;
use super::table::{Fit, pairs, table};
use crate::api::migrations::{PeerView, PeersView};

/// Show the other planes: who is connected, what they have to give, and who was refused.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  embot peers\n  embot peers --output json      with all that they say of themselves")]
pub struct Peers {}

impl Peers {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let peers: PeersView = context.client()?.get("/v1/peers").await?;
        context.show(&peers, |screen| render(&peers, screen))
    }
}

fn render(view: &PeersView, screen: &Screen) -> String {
    let row = |peer: &PeerView| {
        let ways = match (peer.sends, peer.receives) {
            (true, true) => "both ways",
            (true, false) => "to it",
            (false, true) => "from it",
            (false, false) => "none",
        };
        let gives = peer.summary.as_ref().map(|summary| {
            format!(
                "{} hosts, {} guests, {} MiB and {} vcpus free",
                summary.hosts, summary.vms, summary.free_memory_mib, summary.free_vcpus
            )
        });
        vec![
            peer.name.clone(),
            if peer.reachable { "up" } else { "down" }.to_owned(),
            ways.to_owned(),
            gives.or_else(|| peer.problem.clone()).unwrap_or_default(),
        ]
    };
    let columns = [("PEER", Fit::Keep), ("LINK", Fit::State), ("GUESTS", Fit::Keep), ("", Fit::Cut)];
    let mut text = table(&columns, view.peers.iter().map(row).collect(), screen);
    if text.is_empty() {
        text = "no peers; `link` and `peers` in plane.yaml name them\n".to_owned();
    }
    if let Some(why) = &view.unread {
        text += &format!("\nthe files of certificates have changed, and the old ones stay in force: {why}\n");
    }
    if view.refused > 0 {
        let refusals = view
            .refusals
            .iter()
            .map(|one| (screen.time(one.at), format!("{} as {}: {}", one.address, one.presented, one.reason)));
        let refusals: Vec<(String, String)> = refusals.collect();
        let rows: Vec<(&str, String)> = refusals.iter().map(|(at, text)| (at.as_str(), text.clone())).collect();
        text += &format!("\n{} connections were refused; the last:\n{}", view.refused, pairs(&rows, screen));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::migrations::RefusedView;
    use crate::cli::screen::plain;
    use crate::model::Timestamp;
    use crate::model::testing;

    #[test]
    fn peers_as_people_see_them() {
        let at = Timestamp(1_772_366_584_005).into();
        let up = PeerView {
            name: "site-b".to_owned(),
            sends: true,
            receives: true,
            reachable: true,
            address: Some("10.0.0.2:7400".to_owned()),
            summary: testing::peer("site-b").summary,
            summary_at: Some(at),
            clock_ahead_ms: Some(-3),
            problem: None,
        };
        let down = PeerView {
            name: "site-c".to_owned(),
            receives: false,
            reachable: false,
            summary: None,
            problem: Some("connection refused".to_owned()),
            ..up.clone()
        };
        let refusals = vec![RefusedView {
            at,
            address: "10.0.0.9:41234".to_owned(),
            presented: "plane site-x".to_owned(),
            reason: "it is not among `peers`".to_owned(),
        }];
        let all = PeersView {
            peers: vec![up, down],
            refused: 1,
            refusals,
            unread: Some("plane.crt does not belong to the key".to_owned()),
        };
        let none = PeersView { peers: Vec::new(), refused: 0, refusals: Vec::new(), unread: None };
        insta::assert_snapshot!([render(&all, &plain(90)), render(&none, &plain(90))].join("\n"));
    }
}
