//! Where guests are when the day begins.
//!
//! Guests are placed in their order. All of a guest's MIPS are reserved, and memory and network bind.

use super::cluster::{Cluster, Host, Resident};

/// The memory of a host when the day begins.
const MEMORY_MB: f64 = 4_096.0;
/// As many guests share a host's network when the day begins, a gigabit, at 100 megabits each.
const MOST_GUESTS: usize = 10;

/// How guests are placed when the day begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Placement {
    /// On the first host that has room.
    FirstFit,
    /// On the host whose power rises least, the first of several; not on one that is in use already and of whose MIPS the
    /// guest alone would take more than `limit`.
    LeastPower {
        /// A share of the host's MIPS.
        limit: f64,
    },
}

/// What is left of a host.
struct Room {
    free_mips: f64,
    granted_mips: f64,
    free_mb: f64,
}

/// Places all guests; gives the first that has no place.
pub(super) fn place(cluster: &mut Cluster, placement: Placement) -> Result<(), usize> {
    let room = |host: &Host| Room { free_mips: host.kind.total_mips, granted_mips: 0.0, free_mb: MEMORY_MB };
    let mut rooms: Vec<Room> = cluster.hosts.iter().map(room).collect();
    for guest in 0..cluster.guests.len() {
        let (mips, memory_mb) = (cluster.guests[guest].mips, cluster.guests[guest].memory_mb);
        let fits = |&(host, room): &(&Host, &Room)| {
            let settled = host.residents.len() < MOST_GUESTS && room.free_mb >= memory_mb;
            settled && host.kind.processor_mips >= mips && room.free_mips >= mips
        };
        let candidates = || cluster.hosts.iter().zip(&rooms).enumerate().filter(|(_, candidate)| fits(candidate));
        let chosen = match placement {
            Placement::FirstFit => candidates().map(|(index, _)| index).next(),
            Placement::LeastPower { limit } => {
                let calm = |host: &Host, room: &Room| room.granted_mips == 0.0 || mips / host.kind.total_mips <= limit;
                let rise = |host: &Host, room: &Room| {
                    host.kind.curve.watts((room.granted_mips + mips) / host.kind.total_mips) - host.watts
                };
                let rises = candidates().filter(|(_, (host, room))| calm(host, room));
                let least = rises
                    .map(|(index, (host, room))| (index, rise(host, room)))
                    .reduce(|best, next| if next.1 < best.1 { next } else { best });
                least.map(|(index, _)| index)
            }
        };
        let host = chosen.ok_or(guest)?;
        let room = &mut rooms[host];
        room.free_mips -= mips;
        room.granted_mips += mips;
        room.free_mb -= memory_mb;
        cluster.hosts[host].residents.push(Resident { guest, arriving: false });
        cluster.guests[guest].host = Some(host);
    }
    Ok(())
}
