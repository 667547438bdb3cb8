//! Where a simulated host is: the URI in a plane's configuration. The host's name there is its name in the fleet.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The URI of a simulated host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `simulated:`: in a fleet within this process.
    InProcess,
    /// `simulated:unix:/run/fleet.socket`: in a fleet that another process serves.
    Socket(PathBuf),
}

/// Why a text is no such URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no simulated host; write `simulated:` or `simulated:unix:/path/of/the/socket`")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let bad = || AddressError(text.to_owned());
        match text.strip_prefix("simulated:").ok_or_else(bad)? {
            "" => Ok(Address::InProcess),
            rest => rest
                .strip_prefix("unix:")
                .filter(|path| !path.is_empty())
                .map(|path| Address::Socket(path.into()))
                .ok_or_else(bad),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::InProcess => f.write_str("simulated:"),
            Address::Socket(path) => write!(f, "simulated:unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_print_and_others_are_refused() {
        for text in ["simulated:", "simulated:unix:/run/fleet.socket", "simulated:unix:fleet.socket"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "simulated", "simulated:unix:", "simulated:tcp:a", "qemu:///system"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
