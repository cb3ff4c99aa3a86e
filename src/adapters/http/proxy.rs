//! The way out of a network that lets nobody out directly.

use std::fmt;
use url::Url;

/// A proxy for every HTTPS call, as `HTTPS_PROXY` and `NO_PROXY` name it. `Debug` shows its host alone: its address may
/// hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    address: Url,
    except: String,
}

impl Proxy {
    /// `except` lists hosts, domains with all below them, addresses and ranges, separated by commas; `*` means all.
    pub fn new(address: Url, except: Option<&str>) -> Self {
        Self { address, except: except.unwrap_or_default().to_owned() }
    }

    pub(super) fn carry(&self) -> reqwest::Result<reqwest::Proxy> {
        let except = reqwest::NoProxy::from_string(&self.except);
        Ok(reqwest::Proxy::https(self.address.clone())?.no_proxy(except))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.address.host_str().unwrap_or_default();
        write!(f, "Proxy({host} except for `{}`)", self.except)
    }
}
