//! Jumps of the machine's clock. The plane's time goes on evenly whatever that does; an admin is told how far the two are apart.

use crate::clock::SystemClock;
use crate::model::Span;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Less is not worth a word: clocks are corrected all the time.
const WORTH_TELLING: Span = Span::seconds(2);

/// Tells of jumps, for ever.
pub(super) async fn watch(clock: Arc<SystemClock>) {
    let mut known_ms = clock.machine_ahead_ms();
    if known_ms.unsigned_abs() >= WORTH_TELLING.0 {
        let apart = span(known_ms);
        tracing::warn!(
            "the machine's clock is {apart} behind the newest entry of the journal: the plane's time does not go back, and is {apart} \
             ahead of that clock. Look at the machine's clock"
        );
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let ahead_ms = clock.machine_ahead_ms();
        let jump_ms = ahead_ms - known_ms;
        if jump_ms.unsigned_abs() < WORTH_TELLING.0 {
            continue;
        }
        known_ms = ahead_ms;
        tracing::warn!("{}", told(jump_ms, ahead_ms));
    }
}

/// What is said of a jump that leaves the machine's clock so far ahead of the plane's time.
fn told(jump_ms: i64, ahead_ms: i64) -> String {
    let way = if jump_ms > 0 { "forward" } else { "back" };
    let now = match ahead_ms {
        _ if ahead_ms.unsigned_abs() < WORTH_TELLING.0 => "the two agree again".to_owned(),
        1.. => format!("it is {} behind that clock until the daemon is started again", span(ahead_ms)),
        _ => format!("it is {} ahead of that clock", span(ahead_ms)),
    };
    format!(
        "the machine's clock was set {way} by {}: the plane's time goes on evenly, so that nothing is due or expires by the jump; {now}",
        span(jump_ms)
    )
}

/// In whole seconds.
fn span(ms: i64) -> Span {
    Span::seconds((ms.unsigned_abs() + 500) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_told_with_where_it_leaves_the_plane() {
        let hour = 3_600_000;
        let all = [told(hour + 3, hour + 3), told(-hour, 2), told(-hour, -hour), told(5_000, 2 * hour)];
        insta::assert_snapshot!(all.join("\n"));
    }
}
