//! The embedding program's say in what a node takes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::Id;

type Check = dyn Fn(&Id, &[u8], Option<SocketAddr>) -> Result<(), String> + Send + Sync;

/// Decides which values a node takes: for [`Config::validator`](crate::Config::validator).
///
/// It runs before anything is stored, for others or for the node's owner, and before a value
/// that a search has brought is reported. It is the one thing of its user's that the core
/// calls: on the loop's thread, which waits for it. So it has to be quick, must not block, and
/// must not panic. The same value may be shown to it more than once.
///
/// ```
/// use khashmir::{Config, Id, Validator};
///
/// let short = Validator::new(|_key, value, _sender| {
///     if value.len() <= 1000 { Ok(()) } else { Err("1,000 bytes at the most".into()) }
/// });
/// assert!(short.check(&Id::of(b"key"), &[0; 1001], None).is_err());
/// let config = Config { validator: Some(short), ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone)]
pub struct Validator(Kind);

#[derive(Clone)]
enum Kind {
    Immutable,
    Own(Arc<Check>),
}

impl Validator {
    /// Takes what `check` takes, given the key, the value, and the address that it came from:
    /// none, when the node's owner stores it or the node holds it. Otherwise its text is the
    /// reason: peers are told it, cut after 1,024 bytes, and so is the owner.
    pub fn new(
        check: impl Fn(&Id, &[u8], Option<SocketAddr>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Validator(Kind::Own(Arc::new(check)))
    }

    /// Takes values whose SHA-1 is their key: each key has one value, and nobody can put
    /// another in its place.
    pub fn immutable() -> Self {
        Validator(Kind::Immutable)
    }

    /// Whether a value is taken.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn check(&self, key: &Id, value: &[u8], sender: Option<SocketAddr>) -> Result<(), String> {
        match &self.0 {
            Kind::Immutable if Id::of(value) == *key => Ok(()),
            Kind::Immutable => Err("the key is not the SHA-1 of the value".into()),
            Kind::Own(check) => check(key, value, sender),
        }
    }

    /// Whether a value can be taken whose SHA-1 begins so, as far as that tells.
    pub(crate) fn may_take(&self, key: &Id, digest: &[u8]) -> bool {
        match &self.0 {
            Kind::Immutable => key.as_bytes().starts_with(digest),
            Kind::Own(_) => true,
        }
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Immutable => "Validator::immutable()",
            Kind::Own(_) => "Validator::new(..)",
        })
    }
}

/// Two are equal when one is a clone of the other, or both are [`Validator::immutable`].
impl PartialEq for Validator {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Immutable, Kind::Immutable) => true,
            (Kind::Own(a), Kind::Own(b)) => std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
            _ => false,
        }
    }
}
