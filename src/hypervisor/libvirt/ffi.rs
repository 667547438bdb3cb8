//! All of the adapter's unsafe code: calls of libvirt that `virt` lacks, leaks in, or gets wrong.
//!
//! * `virt` has no event registration and no abort-job; its bulk statistics leak; its job statistics free libvirt's memory with
//!   Rust's allocator; its `state` ignores errors; its `migrate_to_uri3` leaks its strings.
//! * Everything libvirt hands out is borrowed or copied here and freed the way libvirt says, also when a visitor panics.
//! * No panic crosses into C.
//!
//! Callers see Rust types only; nothing outside this file is `unsafe`.

use crate::model::VmId;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

/// One value of a typed parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param<'a> {
    /// `int`, `long long` and booleans.
    Int(i64),
    /// `unsigned int` and `unsigned long long`.
    Uint(u64),
    /// `double`.
    Float(f64),
    /// A string that is UTF-8; others are passed as empty.
    Text(&'a str),
}

impl Param<'_> {
    /// The value as a count; `None` for texts and what is negative.
    pub fn count(self) -> Option<u64> {
        match self {
            Param::Uint(count) => Some(count),
            Param::Int(count) => u64::try_from(count).ok(),
            Param::Float(_) | Param::Text(_) => None,
        }
    }
}

/// The typed parameters of one record, by name. Types that this file does not know are left out.
pub struct Params<'a>(std::slice::Iter<'a, sys::virTypedParameter>);

impl<'a> Params<'a> {
    /// # Safety
    /// `params` must point to `count` parameters as libvirt made them, which live for `'a`; it may be null where `count` is 0.
    unsafe fn new(params: *const sys::virTypedParameter, count: c_int) -> Params<'a> {
        let count = usize::try_from(count).unwrap_or(0);
        if params.is_null() || count == 0 {
            return Params([].iter());
        }
        // SAFETY: the caller says that so many initialized parameters live there for 'a.
        Params(unsafe { std::slice::from_raw_parts(params, count) }.iter())
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'a str, Param<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let param = self.0.next()?;
            let Some(name) = field_name(&param.field) else { continue };
            // SAFETY: libvirt says in `type_` which member of the union it has set; a string is NUL-terminated and lives as long
            // as its parameter.
            let value = unsafe {
                match c_uint::try_from(param.type_).unwrap_or(0) {
                    sys::VIR_TYPED_PARAM_INT => Param::Int(i64::from(param.value.i)),
                    sys::VIR_TYPED_PARAM_UINT => Param::Uint(u64::from(param.value.ui)),
                    sys::VIR_TYPED_PARAM_LLONG => Param::Int(param.value.l),
                    sys::VIR_TYPED_PARAM_ULLONG => Param::Uint(param.value.ul),
                    sys::VIR_TYPED_PARAM_DOUBLE => Param::Float(param.value.d),
                    sys::VIR_TYPED_PARAM_BOOLEAN => Param::Int(i64::from(param.value.b)),
                    sys::VIR_TYPED_PARAM_STRING => Param::Text(text(param.value.s).unwrap_or("")),
                    _ => continue,
                }
            };
            return Some((name, value));
        }
    }
}

/// A fixed field of C characters up to its NUL; `None` where it is not UTF-8 or has no NUL.
fn field_name(field: &[c_char]) -> Option<&str> {
    // SAFETY: c_char and u8 have the same size and alignment, and every bit pattern is a valid u8.
    let bytes = unsafe { std::slice::from_raw_parts(field.as_ptr().cast::<u8>(), field.len()) };
    CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()
}

/// # Safety
/// `chars` is null, or points to a NUL-terminated string that lives for `'a`.
unsafe fn text<'a>(chars: *const c_char) -> Option<&'a str> {
    // SAFETY: as the caller says; null is looked for first.
    (!chars.is_null()).then(|| unsafe { CStr::from_ptr(chars) }).and_then(|text| text.to_str().ok())
}

/// # Safety
/// `domain` is a valid domain for the time of the call.
unsafe fn uuid_of(domain: sys::virDomainPtr) -> Option<VmId> {
    let mut bytes = [0u8; 16];
    // SAFETY: VIR_UUID_BUFLEN is 16. The call only copies from the domain object; it asks no server.
    let answer = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (answer == 0).then(|| VmId(Uuid::from_bytes(bytes)))
}

fn check(answer: c_int) -> Result<c_int, Error> {
    if answer < 0 { Err(Error::last_error()) } else { Ok(answer) }
}

/// How much bulk statistics ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All that a sample needs.
    Full,
    /// What libvirt knows without asking any QEMU: one that hangs would hold up the statistics of all domains.
    Shallow,
}

/// Visits the bulk statistics of all domains, active or not. Never waits for a domain that is busy (a plain call waits for the
/// end of a migration at its target): such a domain has fewer fields this time.
pub fn all_domain_stats(connect: &Connect, depth: Depth, mut visit: impl FnMut(VmId, Params<'_>)) -> Result<(), Error> {
    /// Frees the list whatever happens while it is visited.
    struct List(*mut sys::virDomainStatsRecordPtr);
    impl Drop for List {
        fn drop(&mut self) {
            // SAFETY: made by virConnectGetAllDomainStats below, freed once; it frees records, parameters and domains.
            unsafe { sys::virDomainStatsRecordListFree(self.0) }
        }
    }
    let shallow = sys::VIR_DOMAIN_STATS_STATE | sys::VIR_DOMAIN_STATS_CPU_TOTAL | sys::VIR_DOMAIN_STATS_INTERFACE;
    let deep = sys::VIR_DOMAIN_STATS_BALLOON | sys::VIR_DOMAIN_STATS_VCPU | sys::VIR_DOMAIN_STATS_BLOCK;
    let wanted = if depth == Depth::Full { shallow | deep } else { shallow };
    let mut records: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
    // SAFETY: the connection is alive for the call; on success `records` is a list of that many records, ours to free.
    let count = check(unsafe {
        sys::virConnectGetAllDomainStats(connect.as_ptr(), wanted, &mut records, sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    })?;
    let list = List(records);
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: there are `count` valid records; they and what they point to live until `list` is dropped, and `Params` cannot
        // leave the visitor because of its lifetime.
        unsafe {
            let record = &**list.0.add(index);
            if let Some(vm) = uuid_of(record.dom) {
                visit(vm, Params::new(record.params, record.nparams));
            }
        }
    }
    Ok(())
}

/// A domain's state and reason, as libvirt numbers them.
pub fn state(domain: &Domain) -> Result<(c_int, c_int), Error> {
    let (mut state, mut reason) = (0, 0);
    // SAFETY: the domain is alive for the call, and both places are ours.
    check(unsafe { sys::virDomainGetState(domain.as_ptr(), &mut state, &mut reason, 0) })?;
    Ok((state, reason))
}

/// What a domain's present job is (0: none), with its figures.
pub fn job_stats<T>(domain: &Domain, read: impl FnOnce(c_int, Params<'_>) -> T) -> Result<T, Error> {
    /// Frees the parameters whatever happens while they are read.
    struct List(sys::virTypedParameterPtr, c_int);
    impl Drop for List {
        fn drop(&mut self) {
            // SAFETY: made by virDomainGetJobStats below, freed once, by libvirt's own call.
            unsafe { sys::virTypedParamsFree(self.0, self.1) }
        }
    }
    let mut kind = 0;
    let mut list = List(ptr::null_mut(), 0);
    // SAFETY: the domain is alive for the call; on success the list is ours to free.
    check(unsafe { sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut list.0, &mut list.1, 0) })?;
    // SAFETY: so many parameters, alive until `list` is dropped after `read`.
    Ok(read(kind, unsafe { Params::new(list.0, list.1) }))
}

/// Asks libvirt to give up a domain's present job. Returns at once; whoever waits for the job hears of its end.
pub fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain is alive for the call.
    check(unsafe { sys::virDomainAbortJob(domain.as_ptr()) }).map(drop)
}

/// A migration from server to server; blocks until it is over.
pub fn migrate(
    domain: &Domain,
    target_uri: &str,
    texts: &[(&CStr, &str)],
    counts: &[(&CStr, u64)],
    flags: c_uint,
) -> Result<(), Error> {
    /// Parameters as they are made, freed whatever happens.
    struct List {
        params: sys::virTypedParameterPtr,
        count: c_int,
        room: c_int,
    }
    impl Drop for List {
        fn drop(&mut self) {
            // SAFETY: made by virTypedParamsAdd*, freed once, by libvirt's own call.
            unsafe { sys::virTypedParamsFree(self.params, self.count) }
        }
    }
    let mut list = List { params: ptr::null_mut(), count: 0, room: 0 };
    for (name, value) in texts {
        let value = CString::new(*value)?;
        // SAFETY: the list grows by libvirt's own allocation; libvirt copies both strings.
        check(unsafe {
            sys::virTypedParamsAddString(&mut list.params, &mut list.count, &mut list.room, name.as_ptr(), value.as_ptr())
        })?;
    }
    for (name, value) in counts {
        // SAFETY: as above.
        check(unsafe {
            sys::virTypedParamsAddULLong(&mut list.params, &mut list.count, &mut list.room, name.as_ptr(), *value)
        })?;
    }
    let target_uri = CString::new(target_uri)?;
    let count = c_uint::try_from(list.count).unwrap_or(0);
    // SAFETY: domain, URI and parameters are alive for the call, which keeps none of them.
    check(unsafe { sys::virDomainMigrateToURI3(domain.as_ptr(), target_uri.as_ptr(), list.params, count, flags) }).map(drop)
}

/// The host's processor times in nanoseconds since its start, all processors together.
pub fn node_cpu_times(connect: &Connect) -> Result<BTreeMap<String, u64>, Error> {
    let mut count = 0;
    let all = sys::VIR_NODE_CPU_STATS_ALL_CPUS;
    // SAFETY: asked without room, libvirt only says how many there are.
    check(unsafe { sys::virNodeGetCPUStats(connect.as_ptr(), all, ptr::null_mut(), &mut count, 0) })?;
    let empty = sys::virNodeCPUStats { field: [0; 80], value: 0 };
    let mut stats = vec![empty; usize::try_from(count).unwrap_or(0)];
    // SAFETY: there is room for `count`; libvirt sets `count` to how many it wrote.
    check(unsafe { sys::virNodeGetCPUStats(connect.as_ptr(), all, stats.as_mut_ptr(), &mut count, 0) })?;
    stats.truncate(usize::try_from(count).unwrap_or(0));
    Ok(stats.iter().filter_map(|one| Some((field_name(&one.field)?.to_owned(), one.value))).collect())
}

/// The host's memory in KiB: `total`, `free`, `buffers`, `cached`.
pub fn node_memory(connect: &Connect) -> Result<BTreeMap<String, u64>, Error> {
    let mut count = 0;
    let all = sys::VIR_NODE_MEMORY_STATS_ALL_CELLS;
    // SAFETY: asked without room, libvirt only says how many there are.
    check(unsafe { sys::virNodeGetMemoryStats(connect.as_ptr(), all, ptr::null_mut(), &mut count, 0) })?;
    let empty = sys::virNodeMemoryStats { field: [0; 80], value: 0 };
    let mut stats = vec![empty; usize::try_from(count).unwrap_or(0)];
    // SAFETY: there is room for `count`; libvirt sets `count` to how many it wrote.
    check(unsafe { sys::virNodeGetMemoryStats(connect.as_ptr(), all, stats.as_mut_ptr(), &mut count, 0) })?;
    stats.truncate(usize::try_from(count).unwrap_or(0));
    Ok(stats.iter().filter_map(|one| Some((field_name(&one.field)?.to_owned(), one.value))).collect())
}

/// Pages that guests share with others (KSM), those not counted that stand for them; `None` where the host does not say.
pub fn shared_pages(connect: &Connect) -> Result<Option<u64>, Error> {
    let mut count = 0;
    // SAFETY: asked without room, libvirt only says how many there are.
    check(unsafe { sys::virNodeGetMemoryParameters(connect.as_ptr(), ptr::null_mut(), &mut count, 0) })?;
    // SAFETY: all zeroes is a parameter without a name, of no type, with value 0.
    let empty = || unsafe { std::mem::zeroed::<sys::virTypedParameter>() };
    let mut params: Vec<_> = (0..count).map(|_| empty()).collect();
    // SAFETY: there is room for `count`; libvirt sets `count` to how many it wrote.
    check(unsafe { sys::virNodeGetMemoryParameters(connect.as_ptr(), params.as_mut_ptr(), &mut count, 0) })?;
    let mut found = None;
    let name = c"shm_pages_sharing";
    // SAFETY: the first `count` are filled in; a value that is there and of another type leaves `found` as it is.
    unsafe {
        let mut value = 0;
        if sys::virTypedParamsGetULLong(params.as_ptr().cast_mut(), count, name.as_ptr(), &mut value) == 1 {
            found = Some(value);
        }
        // Texts in them, where there are any, were made by libvirt.
        sys::virTypedParamsClear(params.as_mut_ptr(), count);
    }
    Ok(found)
}

/// What libvirt calls out between polls, in its own numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Event and detail of the life cycle.
    Lifecycle(c_int, c_int),
    /// The guest rebooted.
    Reboot,
    /// The watchdog fired; the action.
    Watchdog(c_int),
    /// A disk failed: device alias and reason.
    IoError(String, String),
    /// The balloon's size in KiB.
    Balloon(u64),
    /// The agent's connection: 1 up, 2 down.
    Agent(c_int),
    /// Metadata or devices changed.
    Changed,
}

/// Whoever hears libvirt's events: called on the event loop's thread, so it must not block and must not call libvirt.
pub struct Ear(Box<dyn Fn(VmId, Said) + Send + Sync>);

impl Ear {
    /// Wraps a listener.
    pub fn new(hear: impl Fn(VmId, Said) + Send + Sync + 'static) -> Arc<Ear> {
        Arc::new(Ear(Box::new(hear)))
    }
}

/// Event registrations of one connection.
#[derive(Debug, Default)]
pub struct Registrations(Vec<c_int>);

/// Registers an ear for all events the adapter knows. Only the life cycle is a must: an old libvirt may lack others.
pub fn register(connect: &Connect, ear: &Arc<Ear>) -> Result<Registrations, Error> {
    let mut registrations = Registrations::default();
    for (event, callback) in callbacks() {
        let opaque = Arc::into_raw(Arc::clone(ear)).cast_mut().cast::<c_void>();
        // SAFETY: the callback has the type that this event wants (see `callbacks`); `opaque` is one count of the Arc, which
        // libvirt gives back through `give_back` when it no longer needs it.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connect.as_ptr(),
                ptr::null_mut(),
                event as c_int,
                callback,
                opaque,
                Some(give_back),
            )
        };
        if id >= 0 {
            registrations.0.push(id);
            continue;
        }
        let error = Error::last_error();
        // SAFETY: a failed registration does not call `give_back`; the count made above is still ours.
        unsafe { give_back(opaque) };
        if event == sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE {
            return Err(error);
        }
    }
    Ok(registrations)
}

impl Registrations {
    /// Takes the registrations back. Without it they would keep the connection open for ever.
    pub fn remove(self, connect: &Connect) {
        for id in self.0 {
            // SAFETY: the id was given for this connection, which is alive. A failure only means that it is gone already.
            unsafe { sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), id) };
        }
    }
}

/// # Safety
/// Called by libvirt once for each registration, with the pointer it was given.
unsafe extern "C" fn give_back(opaque: *mut c_void) {
    // SAFETY: `opaque` came from `Arc::into_raw` in `register`, and this is its only return.
    let ear = unsafe { Arc::from_raw(opaque.cast_const().cast::<Ear>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(ear)));
}

/// Tells the ear about a domain.
///
/// # Safety
/// `domain` is valid for the call, `opaque` came from `register` and was not given back yet.
unsafe fn tell(domain: sys::virDomainPtr, opaque: *mut c_void, said: impl FnOnce() -> Said) {
    // SAFETY: libvirt calls back only between registration and `give_back`, so the count behind the pointer is alive.
    let ear = unsafe { &*opaque.cast_const().cast::<Ear>() };
    // A panic must not unwind into C. What was to be told is lost then; the next poll finds it.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libvirt lends the domain for the call.
        if let Some(vm) = unsafe { uuid_of(domain) } {
            (ear.0)(vm, said());
        }
    }));
}

/// # Safety
/// As for `text`; the copy is the caller's.
unsafe fn copy(chars: *const c_char) -> String {
    // SAFETY: as the caller says.
    unsafe { text(chars) }.unwrap_or("").to_owned()
}

type Conn = sys::virConnectPtr;
type Dom = sys::virDomainPtr;
type Opaque = *mut c_void;

// SAFETY of all callbacks: libvirt calls them with a domain and strings that live for the call, and with the pointer that was
// registered. Each has exactly the C type that libvirt documents for its event.
unsafe extern "C" fn on_lifecycle(_: Conn, domain: Dom, event: c_int, detail: c_int, opaque: Opaque) -> c_int {
    unsafe { tell(domain, opaque, || Said::Lifecycle(event, detail)) };
    0
}
unsafe extern "C" fn on_reboot(_: Conn, domain: Dom, opaque: Opaque) {
    unsafe { tell(domain, opaque, || Said::Reboot) }
}
unsafe extern "C" fn on_watchdog(_: Conn, domain: Dom, action: c_int, opaque: Opaque) {
    unsafe { tell(domain, opaque, || Said::Watchdog(action)) }
}
unsafe extern "C" fn on_io_error(
    _: Conn,
    domain: Dom,
    _path: *const c_char,
    alias: *const c_char,
    _action: c_int,
    reason: *const c_char,
    opaque: Opaque,
) {
    unsafe { tell(domain, opaque, || Said::IoError(copy(alias), copy(reason))) }
}
unsafe extern "C" fn on_balloon(_: Conn, domain: Dom, actual_kib: u64, opaque: Opaque) {
    unsafe { tell(domain, opaque, || Said::Balloon(actual_kib)) }
}
unsafe extern "C" fn on_agent(_: Conn, domain: Dom, state: c_int, _reason: c_int, opaque: Opaque) {
    unsafe { tell(domain, opaque, || Said::Agent(state)) }
}
unsafe extern "C" fn on_device(_: Conn, domain: Dom, _alias: *const c_char, opaque: Opaque) {
    unsafe { tell(domain, opaque, || Said::Changed) }
}
unsafe extern "C" fn on_metadata(_: Conn, domain: Dom, _kind: c_int, _uri: *const c_char, opaque: Opaque) {
    unsafe { tell(domain, opaque, || Said::Changed) }
}

/// Events and their callbacks. libvirt wants all of them under one generic type and calls each with the arguments of its event.
fn callbacks() -> [(sys::virDomainEventID, sys::virConnectDomainEventGenericCallback); 9] {
    type Generic = unsafe extern "C" fn(Conn, Dom, Opaque);
    type Number = unsafe extern "C" fn(Conn, Dom, c_int, Opaque);
    type Numbers = unsafe extern "C" fn(Conn, Dom, c_int, c_int, Opaque);
    type Lifecycle = unsafe extern "C" fn(Conn, Dom, c_int, c_int, Opaque) -> c_int;
    type IoError = unsafe extern "C" fn(Conn, Dom, *const c_char, *const c_char, c_int, *const c_char, Opaque);
    type Balloon = unsafe extern "C" fn(Conn, Dom, u64, Opaque);
    type Device = unsafe extern "C" fn(Conn, Dom, *const c_char, Opaque);
    type Metadata = unsafe extern "C" fn(Conn, Dom, c_int, *const c_char, Opaque);
    use std::mem::transmute;
    // SAFETY: a function pointer may be held under another function type; it is called only by libvirt, which turns it back into
    // the type that belongs to the event. That is how libvirt's own header defines VIR_DOMAIN_EVENT_CALLBACK.
    unsafe {
        [
            (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, Some(transmute::<Lifecycle, Generic>(on_lifecycle))),
            (sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(on_reboot as Generic)),
            (sys::VIR_DOMAIN_EVENT_ID_WATCHDOG, Some(transmute::<Number, Generic>(on_watchdog))),
            (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, Some(transmute::<IoError, Generic>(on_io_error))),
            (sys::VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, Some(transmute::<Balloon, Generic>(on_balloon))),
            (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, Some(transmute::<Numbers, Generic>(on_agent))),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, Some(transmute::<Device, Generic>(on_device))),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, Some(transmute::<Device, Generic>(on_device))),
            (sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, Some(transmute::<Metadata, Generic>(on_metadata))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, kind: c_uint, value: sys::_virTypedParameterValue) -> sys::virTypedParameter {
        let mut field = [0; 80];
        for (place, byte) in field.iter_mut().zip(name.bytes()) {
            *place = byte as c_char;
        }
        sys::virTypedParameter { field, type_: kind as c_int, value }
    }

    #[test]
    fn typed_parameters_are_read_by_their_type() {
        let word = CString::new("vda").unwrap();
        let list = [
            param("state.state", sys::VIR_TYPED_PARAM_INT, sys::_virTypedParameterValue { i: -1 }),
            param("cpu.time", sys::VIR_TYPED_PARAM_ULLONG, sys::_virTypedParameterValue { ul: u64::MAX }),
            param("vcpu.current", sys::VIR_TYPED_PARAM_UINT, sys::_virTypedParameterValue { ui: 2 }),
            param("new.kind", 99, sys::_virTypedParameterValue { ui: 2 }),
            param("block.0.name", sys::VIR_TYPED_PARAM_STRING, sys::_virTypedParameterValue { s: word.as_ptr().cast_mut() }),
        ];
        let read: Vec<_> = unsafe { Params::new(list.as_ptr(), list.len() as c_int) }.collect();
        let expected = [
            ("state.state", Param::Int(-1)),
            ("cpu.time", Param::Uint(u64::MAX)),
            ("vcpu.current", Param::Uint(2)),
            ("block.0.name", Param::Text("vda")),
        ];
        assert_eq!(read, expected);
        assert_eq!(unsafe { Params::new(ptr::null(), 0) }.count(), 0);
    }

    #[test]
    fn a_field_without_its_end_is_no_name() {
        assert_eq!(field_name(&[b'x' as c_char; 80]), None);
        assert_eq!(field_name(&[0; 80]), Some(""));
    }
}
