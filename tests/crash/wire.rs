//! A wire between two planes that can be cut, at any byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What passes.
#[derive(Default)]
struct Passage {
    /// So many bytes that the dialling plane says, and then nothing either way; `None`: everything.
    left: Option<u64>,
    /// The connections.
    open: Vec<TcpStream>,
}

/// The way to where a plane listens. Its threads end with the test's process.
pub struct Wire {
    address: SocketAddr,
    passage: Arc<Mutex<Passage>>,
}

impl Wire {
    /// A whole wire to this address.
    pub fn to(address: &str) -> Wire {
        let (listener, passage) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Arc::<Mutex<Passage>>::default());
        let (own, shared, address) = (listener.local_addr().expect("an address"), passage.clone(), address.to_owned());
        thread::spawn(move || {
            for dialled in listener.incoming() {
                let Ok(here) = dialled else { continue };
                if shared.lock().expect("no panic").left != Some(0)
                    && let Ok(there) = TcpStream::connect(&address)
                {
                    join(&here, &there, &shared);
                }
            }
        });
        Wire { address: own, passage }
    }

    /// Where to dial.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// After so many more bytes that the dialling plane says, it is cut.
    pub fn cut_after(&self, bytes: u64) {
        let mut passage = self.passage.lock().expect("no panic");
        passage.left = Some(bytes);
        if bytes == 0 {
            passage.end();
        }
    }

    /// Is it cut?
    pub fn is_cut(&self) -> bool {
        self.passage.lock().expect("no panic").left == Some(0)
    }

    /// It is whole again.
    pub fn mend(&self) {
        self.passage.lock().expect("no panic").left = None;
    }
}

impl Passage {
    fn end(&mut self) {
        for stream in self.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries bytes both ways until one side ends, or the wire is cut.
fn join(here: &TcpStream, there: &TcpStream, passage: &Arc<Mutex<Passage>>) {
    let copy = |stream: &TcpStream| stream.try_clone().expect("a handle");
    passage.lock().expect("no panic").open.extend([copy(here), copy(there)]);
    for (from, to, counts) in [(copy(here), copy(there), true), (copy(there), copy(here), false)] {
        let passage = passage.clone();
        thread::spawn(move || carry(from, to, counts, &passage));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, counts: bool, passage: &Mutex<Passage>) {
    let mut bytes = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let mut passage = passage.lock().expect("no panic");
        let mut passes = read;
        if let Some(left) = passage.left.as_mut().filter(|left| counts || **left == 0) {
            passes = read.min(*left as usize);
            *left -= passes as u64;
        }
        let is_cut = passage.left == Some(0);
        let sent = to.write_all(&bytes[..passes]);
        if is_cut {
            passage.end();
        }
        drop(passage);
        if sent.is_err() || is_cut {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
