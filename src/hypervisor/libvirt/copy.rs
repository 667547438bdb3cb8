//! Cold copies of a guest's files to another host, through this daemon: libvirt streams a file out here and in there.
//!
//! ```text
//! source's session: download --> SHA-256 --> a few blocks --> target's session: upload
//!                                                             then: download again --> SHA-256, the same?
//! ```
//! What it takes: this daemon reaches the target's libvirtd. A file there that is of the same size is written over (it is what
//! an attempt before left, or the image that an admin made for it); one of another size is an error. Nothing is deleted. Base
//! images are not copied; the target's must be of the same size.

use super::failure::{Trouble, is_missing};
use super::handover::{Hand, judge_here};
use super::session::{ACT_LONG, ANSWER, Door, Session};
use super::volumes::{self, in_pool, physical, with_volume};
use crate::hypervisor::domain_xml::escape;
use crate::hypervisor::{ErrorKind, HypervisorError, Portrait, SAVED, Transfer, Verdict, portrait};
use crate::model::{Progress, Timestamp};
use crossbeam_channel::{Receiver, Sender, bounded};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use virt::connect::Connect;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt_sys as sys;

/// A block of a file on its way.
const BLOCK: usize = 256 * 1024;
/// So many blocks may wait between the two hosts.
const BLOCKS: usize = 8;
const GLANCE: Duration = Duration::from_millis(200);

type Digested = [u8; 32];

/// What both ends and the one who waits share.
#[derive(Default)]
struct Meter {
    done: AtomicU64,
    stopped: AtomicBool,
    /// The copy takes too long from then on.
    by: Option<Timestamp>,
}

/// A file and where it goes.
struct File {
    from: String,
    to: String,
}

/// Copies the files of a guest that is off.
pub fn copy(hand: &Hand<'_>, transfer: &Transfer) -> Result<(), HypervisorError> {
    let by = transfer.limits.timeout.map(|timeout| hand.clock.now() + timeout);
    copy_by(hand, transfer, by).map_err(|error| match transfer.limits.timeout {
        Some(timeout) if error.kind == ErrorKind::Cancelled && !hand.watch.is_cancelled() => {
            HypervisorError::new(ErrorKind::TimedOut, format!("{}: it took longer than {timeout}", error.what))
        }
        _ => error,
    })
}

fn copy_by(hand: &Hand<'_>, transfer: &Transfer, by: Option<Timestamp>) -> Result<(), HypervisorError> {
    let files = files(hand, transfer)?;
    let door = Door { host: transfer.destination.host.clone(), uri: transfer.destination.uri.clone() };
    let target = Session::open(&door, None);
    another_host(hand, &target, &door)?;
    let mut bases: Vec<Arc<str>> = Vec::new();
    for file in &files {
        let path = file.from.clone();
        let read = format!("read what {path} rests on");
        bases.extend(hand.session.call(read, ANSWER, move |connect| volumes::bases(connect, &path))?);
    }
    bases.sort();
    bases.dedup();
    bases.iter().try_for_each(|base| same_base(hand, &target, &door, base))?;
    let mut sizes = Vec::new();
    for file in &files {
        let path = file.from.clone();
        let size = move |connect: &Connect| with_volume(connect, &path, physical);
        sizes.push(hand.session.call(format!("read the size of {}", file.from), ANSWER, size)?);
    }
    // Each byte goes over twice: there, and back to be verified.
    let total_bytes = sizes.iter().sum::<u64>().saturating_mul(2);
    let mut before: u64 = 0;
    for (file, bytes) in files.iter().zip(&sizes) {
        let meter = Arc::new(Meter { by, ..Meter::default() });
        if given_up(hand, &meter) {
            let what = format!("{}: the copy of {} was given up before it began", door.host, file.from);
            return Err(HypervisorError::new(ErrorKind::Cancelled, what));
        }
        let tell = |done: u64| hand.watch.progress(Progress { done_bytes: before.saturating_add(done), total_bytes });
        let sent = send(hand, &target, file, *bytes, &meter, &tell)?;
        let arrived = verify(hand, &target, file, *bytes, &meter, &tell)?;
        if sent != arrived {
            let what = format!(
                "{} was copied to {} as {}, and what is there now has another checksum; is its disk sound?",
                file.from, door.host, file.to
            );
            return Err(HypervisorError::new(ErrorKind::Failed, what));
        }
        before = before.saturating_add(bytes.saturating_mul(2));
    }
    hand.watch.progress(Progress { done_bytes: before, total_bytes });
    Ok(())
}

/// A base image stays where it is: the target must have the very same. Reading all of it for one guest would take far longer than
/// what is copied of the guest, so its size has to do.
fn same_base(hand: &Hand<'_>, target: &Session, door: &Door, base: &Arc<str>) -> Result<(), HypervisorError> {
    let size = |session: &Session| {
        let path = base.clone();
        session.call(format!("read the size of {base}"), ANSWER, move |connect| volumes::size(connect, &path))
    };
    let (here, there) = (size(hand.session)?, size(target)?);
    if here == there {
        return Ok(());
    }
    let bytes = |size: Option<u64>| size.map_or_else(|| "missing".to_owned(), |bytes| format!("{bytes} bytes"));
    let what = format!(
        "the image {base}, which a disk of guest {} rests on, is another on {}: {} there, {} here",
        hand.handover.vm,
        door.host,
        bytes(there),
        bytes(here)
    );
    Err(HypervisorError::new(ErrorKind::Precondition, what))
}

/// A URI such as `qemu:///system` names this very host wherever it is read: files would be written over themselves.
fn another_host(hand: &Hand<'_>, target: &Session, door: &Door) -> Result<(), HypervisorError> {
    let uuid = |connect: &Connect| {
        let text = connect.capabilities()?;
        let document = roxmltree::Document::parse(&text).ok();
        let uuid = document.and_then(|xml| Some(xml.descendants().find(|node| node.has_tag_name("uuid"))?.text()?.to_owned()));
        Ok(uuid)
    };
    let here = hand.session.call("read what the host can do".to_owned(), ANSWER, uuid)?;
    let there = target.call("read what the target host can do".to_owned(), ANSWER, uuid)?;
    if here.is_none() || here != there {
        return Ok(());
    }
    let what = format!(
        "the hypervisor URI of {}, `{}`, leads back to {}; name its host in it, as in `qemu+tls://HOST/system`",
        door.host, door.uri, hand.door.host
    );
    Err(HypervisorError::new(ErrorKind::Precondition, what))
}

/// The files to be copied: disks that the guest writes, where they are not shared, and its firmware's variables.
fn files(hand: &Hand<'_>, transfer: &Transfer) -> Result<Vec<File>, HypervisorError> {
    let (host, handover) = (hand.door.host.clone(), Arc::new(hand.handover.clone()));
    let what = format!("read the files of guest {}", handover.vm);
    let xml = hand.session.call(what, ANSWER, move |connect| {
        let (Verdict::Begin, Some(here)) = judge_here(connect, &host, &handover)? else {
            let what = format!("{host}: another job works on guest {}; wait for its end", handover.vm);
            return Err(Trouble::refuse(ErrorKind::Failed, what));
        };
        // libvirt may have forgotten why it is off.
        if here.domain.has_managed_save(0)? {
            let what = format!("guest {} on {host} {SAVED}", here.found.name);
            return Err(Trouble::refuse(ErrorKind::Precondition, what));
        }
        // One that has crashed may be kept for those who look into it, with its QEMU, which still has the files open.
        if here.domain.is_active()? {
            let what = format!(
                "guest {} on {host} is {}, but its process is still there; end it first",
                here.found.name, here.found.state
            );
            return Err(Trouble::refuse(ErrorKind::Precondition, what));
        }
        // Its definition stays here until the target owns it: this host must not start it by itself meanwhile. The mark
        // remembers the flag, and whoever takes the guest back puts it back.
        if here.domain.autostart()? {
            here.domain.set_autostart(false)?;
        }
        Ok(here.domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?)
    })?;
    let no = |kind, why: &str| {
        let what = format!("{}: cannot copy the files of guest {}: {why}", hand.door.host, hand.handover.vm);
        HypervisorError::new(kind, what)
    };
    let portrait = portrait(&xml).map_err(|why| no(ErrorKind::Failed, &why))?;
    if let Some(why) = portrait.obstacle_to_a_copy(transfer.limits.copy_storage) {
        return Err(no(ErrorKind::Unsupported, &why));
    }
    Ok(files_of(&portrait, transfer))
}

fn files_of(portrait: &Portrait, transfer: &Transfer) -> Vec<File> {
    let file = |from: &Arc<str>| File {
        to: transfer.rewriting.path(from).unwrap_or_else(|| from.to_string()),
        from: from.to_string(),
    };
    portrait.copied(transfer.limits.copy_storage).map(file).collect()
}

/// Streams a file out of a host; hands each block on until it is told to stop.
fn read(
    connect: &Connect,
    path: &str,
    bytes: u64,
    meter: &Meter,
    mut take: impl FnMut(Vec<u8>) -> bool,
) -> Result<Digested, Trouble> {
    with_volume(connect, path, |volume| {
        let stream = Stream::new(connect, 0)?;
        volume.download(&stream, 0, bytes, 0)?;
        let mut digest = Sha256::new();
        loop {
            let mut block = vec![0; BLOCK];
            let got = usize::try_from(stream.recv(&mut block)?).unwrap_or(0);
            if got == 0 {
                break;
            }
            block.truncate(got);
            digest.update(&block);
            meter.done.fetch_add(got as u64, Ordering::Relaxed);
            if meter.stopped.load(Ordering::Relaxed) || !take(block) {
                let _ = stream.abort();
                return Err(Trouble::refuse(ErrorKind::Cancelled, format!("the copy of {path} was given up")));
            }
        }
        stream.finish()?;
        Ok(digest.finalize().into())
    })
}

/// Streams a file into a host.
fn write(connect: &Connect, path: &str, bytes: u64, blocks: &Receiver<Vec<u8>>) -> Result<(), Trouble> {
    in_pool(connect, path, |pool, name| {
        let volume = match pool.lookup_storage_vol_by_name(name) {
            Ok(volume) => {
                let there = physical(&volume)?;
                if there != bytes {
                    let what =
                        format!("{path} is there already, with {there} bytes instead of {bytes}; move it out of the way");
                    return Err(Trouble::refuse(ErrorKind::Precondition, what));
                }
                volume
            }
            Err(error) if is_missing(&error) => {
                // Raw: its bytes are taken as they come, whatever they mean.
                let volume = format!(
                    "<volume><name>{}</name><capacity unit='bytes'>{bytes}</capacity><allocation>0</allocation>\
                     <target><format type='raw'/></target></volume>",
                    escape(name)
                );
                StorageVol::create_xml(pool, &volume, 0)?
            }
            Err(error) => return Err(error.into()),
        };
        let stream = Stream::new(connect, 0)?;
        volume.upload(&stream, 0, bytes, 0)?;
        for block in blocks {
            let mut rest = block.as_slice();
            while !rest.is_empty() {
                let sent = usize::try_from(stream.send(rest)?).unwrap_or(0);
                rest = rest.get(sent..).unwrap_or_default();
            }
        }
        Ok(stream.finish()?)
    })
}

fn send(
    hand: &Hand<'_>,
    target: &Session,
    file: &File,
    bytes: u64,
    meter: &Arc<Meter>,
    tell: &dyn Fn(u64),
) -> Result<Digested, HypervisorError> {
    let (sender, blocks): (Sender<Vec<u8>>, Receiver<Vec<u8>>) = bounded(BLOCKS);
    let (from, meters) = (file.from.clone(), meter.clone());
    let reads = hand
        .session
        .begin(format!("read {from}"), move |connect| read(connect, &from, bytes, &meters, |block| sender.send(block).is_ok()));
    let to = file.to.clone();
    let writes = target.begin(format!("write {to}"), move |connect| write(connect, &to, bytes, &blocks));
    let read = wait(hand, meter, tell, || reads.wait(GLANCE));
    // The one that writes ends when the blocks do; what it says explains why the other had to stop.
    let written = writes.wait(ACT_LONG).unwrap_or_else(|| Err(writes.overdue(ACT_LONG)));
    match (read, written) {
        (Err(error), _) if given_up(hand, meter) => Err(error),
        (_, Err(error)) | (Err(error), _) => Err(error),
        (Ok(digest), Ok(())) => Ok(digest),
    }
}

fn verify(
    hand: &Hand<'_>,
    target: &Session,
    file: &File,
    bytes: u64,
    meter: &Arc<Meter>,
    tell: &dyn Fn(u64),
) -> Result<Digested, HypervisorError> {
    let (to, meters) = (file.to.clone(), meter.clone());
    let reads = target.begin(format!("read {to} again"), move |connect| read(connect, &to, bytes, &meters, |_| true));
    wait(hand, meter, tell, || reads.wait(GLANCE))
}

/// Is it cancelled, or does it take too long? Then both ends are told to stop.
fn given_up(hand: &Hand<'_>, meter: &Meter) -> bool {
    let stops = hand.watch.is_cancelled() || meter.by.is_some_and(|by| hand.clock.now() >= by);
    if stops {
        meter.stopped.store(true, Ordering::Relaxed);
    }
    stops
}

/// Waits for one end, and tells how far it is.
fn wait<T>(
    hand: &Hand<'_>,
    meter: &Meter,
    tell: &dyn Fn(u64),
    answer: impl Fn() -> Option<Result<T, HypervisorError>>,
) -> Result<T, HypervisorError> {
    let mut told = 0;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        given_up(hand, meter);
        let done = meter.done.load(Ordering::Relaxed);
        if done != told {
            told = done;
            tell(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Destination, DiskFile, MigrationLimits, Rewriting};
    use crate::migration::ResumeBy;

    #[test]
    fn disks_are_copied_where_they_are_not_shared_and_the_firmware_s_variables_always() {
        let disk = |path: &str, read_only| DiskFile { target: "vda".into(), path: path.into(), read_only };
        let portrait = Portrait {
            disks: vec![disk("/pool/web.qcow2", false), disk("/iso/boot.iso", true)],
            nvram: Some("/nvram/web.fd".into()),
            ..Portrait::default()
        };
        let destination = Destination { host: "b".into(), uri: "".into(), migration_uri: None };
        let rewriting = Rewriting { paths: [("/pool/".into(), "/data/".into())].into(), ..Rewriting::default() };
        let limits = MigrationLimits::default();
        let mut transfer = Transfer { destination, limits, resume: ResumeBy::Manager, rewriting };
        let told = |transfer: &Transfer| -> Vec<String> {
            files_of(&portrait, transfer).into_iter().map(|file| format!("{} -> {}", file.from, file.to)).collect()
        };
        assert_eq!(told(&transfer), ["/nvram/web.fd -> /nvram/web.fd"]);
        transfer.limits.copy_storage = true;
        assert_eq!(told(&transfer), ["/pool/web.qcow2 -> /data/web.qcow2", "/nvram/web.fd -> /nvram/web.fd"]);
    }
}
