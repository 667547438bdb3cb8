//! A disk in memory that fails when told, for crash tests and simulations.
//!
//! It keeps apart what was synced and what was only written, because that is what a power cut takes: of the writes since
//! the last sync any sectors may be there, in any mixture. A killed process loses only what it had not yet written.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// How a crash came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: all it had written is there.
    Killed,
    /// The power failed: of what was not synced, chance decides sector by sector.
    PowerLoss {
        /// Of chance.
        seed: u64,
    },
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    live: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    changes: u64,
    fails: Option<(u64, io::ErrorKind)>,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl SimulatedDisk {
    /// How many writes, syncs and changes of length there were.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// The change with this number (from 0) and everything after it, reads too, fails in this way.
    pub fn fail_from(&self, change: u64, kind: io::ErrorKind) {
        self.state().fails = Some((change, kind));
    }

    /// Flips these bits of the byte at `offset`, as a failing disk or cable would. Beyond the end nothing happens.
    pub fn damage(&self, offset: usize, bits: u8) {
        let mut state = self.state();
        let state = &mut *state;
        for image in [&mut state.live, &mut state.synced] {
            if let Some(byte) = image.get_mut(offset) {
                *byte ^= bits;
            }
        }
    }

    /// What is on the disk after a crash at this moment, as a new and sound disk.
    pub fn crash(&self, crash: Crash) -> SimulatedDisk {
        let state = self.state();
        let survives = match crash {
            Crash::Killed => state.live.clone(),
            Crash::PowerLoss { seed } => state.after_power_loss(seed),
        };
        SimulatedDisk(Arc::new(Mutex::new(State { live: survives.clone(), synced: survives, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        match self.fails {
            Some((from, kind)) if self.changes > from => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// Counts a change, and says whether it still happens.
    fn count(&mut self) -> io::Result<()> {
        self.changes += 1;
        self.check()
    }

    /// A quarter of all seeds lose everything unsynced, and another quarter nothing but the order's end.
    fn after_power_loss(&self, seed: u64) -> Vec<u8> {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let odds = [0, 8, 8, 15][(chance.next_u32() % 4) as usize];
        let mut survives = || chance.next_u32() % 16 < odds;
        let mut disk = self.synced.clone();
        for change in &self.unsynced {
            match change {
                Change::Length(length) if survives() => disk.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write(start, data) => {
                    let mut at = *start;
                    while at < start + data.len() {
                        let end = (at / SECTOR * SECTOR + SECTOR).min(start + data.len());
                        // What lies beyond the length that survived is not seen again.
                        let kept = end.min(disk.len());
                        if survives() && at < kept {
                            disk[at..kept].copy_from_slice(&data[at - start..kept - start]);
                        }
                        at = end;
                    }
                }
            }
        }
        disk
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        state.check()?;
        Ok(state.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, start) = (self.state(), place(offset)?);
        state.check()?;
        let end = start.checked_add(out.len()).filter(|end| *end <= state.live.len());
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(&state.live[start..end]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let (mut state, length) = (self.state(), place(length)?);
        state.count()?;
        state.live.resize(length, 0);
        state.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.count()?;
        let state = &mut *state;
        for change in state.unsynced.drain(..) {
            match change {
                Change::Length(length) => state.synced.resize(length, 0),
                Change::Write(start, data) => state.synced[start..start + data.len()].copy_from_slice(&data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, start) = (self.state(), place(offset)?);
        let end = start.checked_add(data.len()).filter(|end| *end <= state.live.len());
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let result = state.count();
        // The write at which the disk fails may still have come through in part: a power cut decides.
        if result.is_ok() || state.fails.is_some_and(|(from, _)| state.changes == from + 1) {
            state.unsynced.push(Change::Write(start, data.to_vec()));
        }
        result?;
        state.live[start..end].copy_from_slice(data);
        Ok(())
    }
}
