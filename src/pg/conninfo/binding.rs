//! `channel_binding`: whether the proof of a password is bound to the encrypted connection over which it goes.

use super::text::Pairs;
use super::{ConninfoError, value};

/// Each asks for more than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBinding {
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// A server that does not is not connected to.
    Require,
}

pub(super) fn channel_binding(pairs: &Pairs) -> Result<ChannelBinding, ConninfoError> {
    match pairs.get("channel_binding").map(String::as_str) {
        Some("disable") => Ok(ChannelBinding::Disable),
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("require") => Ok(ChannelBinding::Require),
        Some(other) => {
            let known = "values are disable, prefer and require";
            Err(value("channel_binding", other, known))
        }
    }
}
