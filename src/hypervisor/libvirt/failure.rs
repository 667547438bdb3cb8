//! libvirt's errors as the plane's: what sort of failure, what failed on which host, libvirt's own words, what to do next.

use crate::hypervisor::{ErrorKind, HypervisorError};
use crate::model::HostId;
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};

/// Why a piece of work did not get done: libvirt failed, or the adapter refused it.
#[derive(Debug)]
pub enum Trouble {
    /// libvirt's error.
    Libvirt(Error),
    /// Refused, with all there is to say.
    Refused(HypervisorError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Libvirt(error)
    }
}

impl Trouble {
    /// A refusal.
    pub fn refuse(kind: ErrorKind, what: impl Into<String>) -> Trouble {
        Trouble::Refused(HypervisorError::new(kind, what))
    }

    /// The plane's error. `what` completes "cannot ..."; `alive`: the connection still stands.
    pub fn into_error(self, host: &HostId, what: &str, alive: bool) -> HypervisorError {
        match self {
            Trouble::Refused(error) => error,
            Trouble::Libvirt(error) => of(host, what, &error, alive),
        }
    }
}

/// Is this libvirt saying that there is no such domain (or volume)?
pub fn is_missing(error: &Error) -> bool {
    matches!(error.code(), Enum::Known(ErrorNumber::NoDomain | ErrorNumber::NoStorageVolume))
}

/// Is this libvirt saying that it does not know a flag?
pub fn is_unsupported(error: &Error) -> bool {
    matches!(error.code(), Enum::Known(ErrorNumber::InvalidArg | ErrorNumber::NoSupport | ErrorNumber::ArgumentUnsupported))
}

/// Is this libvirt saying that a domain has no such metadata?
pub fn is_without_metadata(error: &Error) -> bool {
    error.code() == Enum::Known(ErrorNumber::NoDomainMetadata)
}

/// Is this libvirt saying that the domain's state does not allow it?
pub fn is_wrong_state(error: &Error) -> bool {
    error.code() == Enum::Known(ErrorNumber::OperationInvalid)
}

/// The plane's error for one of libvirt's.
pub fn of(host: &HostId, what: &str, error: &Error, alive: bool) -> HypervisorError {
    let kind = if alive { kind_of(error) } else { ErrorKind::Unreachable };
    let advice = match kind {
        ErrorKind::Unreachable => "; is libvirtd running there, and does `virsh -c URI list` work from here?",
        ErrorKind::TimedOut => "; another operation holds the guest: `virsh domjobinfo` on that host shows it",
        ErrorKind::Unsupported => "; the host's libvirt or QEMU, or the guest's definition, does not allow it",
        _ => "",
    };
    HypervisorError::new(kind, format!("{host}: cannot {what}: {}{advice}", error.message()))
}

/// The error of an open that failed, whatever libvirt calls it: the host cannot be reached.
pub fn of_open(host: &HostId, uri: &str, error: &Error) -> HypervisorError {
    let advice = match error.code() {
        Enum::Known(
            ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable | ErrorNumber::AccessDenied,
        ) => "; check the credentials or certificates this daemon runs with",
        _ => "; is libvirtd running there, and is the URI right?",
    };
    HypervisorError::new(ErrorKind::Unreachable, format!("{host}: cannot connect to {uri}: {}{advice}", error.message()))
}

fn kind_of(error: &Error) -> ErrorKind {
    let Enum::Known(code) = error.code() else { return ErrorKind::Failed };
    match code {
        ErrorNumber::NoDomain => ErrorKind::NotFound,
        ErrorNumber::OperationInvalid => ErrorKind::Precondition,
        ErrorNumber::OperationTimeout | ErrorNumber::AgentUnresponsive | ErrorNumber::AgentCommandTimeout => {
            ErrorKind::TimedOut
        }
        ErrorNumber::OperationAborted => ErrorKind::Cancelled,
        ErrorNumber::NoSupport
        | ErrorNumber::ConfigUnsupported
        | ErrorNumber::ArgumentUnsupported
        | ErrorNumber::OperationUnsupported => ErrorKind::Unsupported,
        ErrorNumber::NoConnect | ErrorNumber::InvalidConn => ErrorKind::Unreachable,
        _ => ErrorKind::Failed,
    }
}
