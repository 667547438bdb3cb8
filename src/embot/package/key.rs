//! Ed25519 keys: who signs modules, and whose signatures count.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How a public key's text begins.
const PREFIX: &str = "ed25519:";

/// A public key. Its text form is `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// A key that signs. It never leaves the process in any form.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why something is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A text that names no public key.
    #[error(
        "`{0}` is no public key: it has the form `ed25519:` and 64 hexadecimal digits; `embot module keys public` shows one"
    )]
    Public(String),
    /// Bytes that hold no private key.
    #[error("this is no Ed25519 private key (PKCS#8): {0}; `embot module keys generate` makes one")]
    Private(String),
}

impl PublicKey {
    /// Did the owner of this key sign these bytes?
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// Enough of it to tell keys apart at a glance.
    pub fn short(&self) -> String {
        self.to_string().chars().take(PREFIX.len() + 12).collect()
    }
}

impl SigningKey {
    /// Reads a private key in PKCS#8 form, as `embot module keys generate` and OpenSSL write it.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<SigningKey, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(|error| KeyError::Private(error.to_string()))?;
        SigningKey::of(pair)
    }

    /// The key of a seed: for tests and simulations, where all must come out the same.
    pub fn from_seed(seed: &[u8; 32]) -> Result<SigningKey, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|error| KeyError::Private(error.to_string()))?;
        SigningKey::of(pair)
    }

    fn of(pair: Ed25519KeyPair) -> Result<SigningKey, KeyError> {
        let bytes = pair.public_key().as_ref().try_into();
        let public = bytes.map(PublicKey).map_err(|_| KeyError::Private("its public key has another length".to_owned()))?;
        Ok(SigningKey { pair, public })
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        // Ed25519 signatures have 64 bytes; of another length nothing would ever verify.
        let signed = self.pair.sign(message);
        if signed.as_ref().len() == signature.len() {
            signature.copy_from_slice(signed.as_ref());
        }
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        let bad = || KeyError::Public(text.chars().take(80).collect());
        let digits = text.strip_prefix(PREFIX).ok_or_else(bad)?;
        digits.parse::<crate::model::ContentHash>().map(|bytes| PublicKey(bytes.0)).map_err(|_| bad())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom);
        }
        <[u8; 32]>::deserialize(deserializer).map(PublicKey)
    }
}
