//! Turns an open socket into a session: the start-up message and authentication.

use std::fmt;
use std::io;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::{backend, frontend};

use super::answer::ErrorOrNotice;
use super::input::{Broken, Message};
use crate::pg::connection::READ_ONLY;
use crate::pg::conninfo::ChannelBinding;
use crate::pg::{Endpoint, Failure, Password};

/// The kinds of authentication, with the protocol's numbers.
mod kind {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT_PASSWORD: u32 = 3;
    pub(super) const MD5_PASSWORD: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// The key with which another connection can ask the server to cancel the statement of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelKey {
    process_id: i32,
    secret: i32,
}

impl CancelKey {
    /// Writes the cancel request, which is the only message of its connection.
    pub fn write(self, out: &mut BytesMut) {
        frontend::cancel_request(self.process_id, self.secret, out);
    }
}

/// A start-up in progress.
pub struct StartUp {
    user: String,
    password: Option<Password>,
    scram: Option<ScramSha256>,
    /// The channel-binding data of an encrypted connection; `None` if there is none.
    channel_binding: Option<Vec<u8>>,
    wanted: ChannelBinding,
    is_bound: bool,
    cancel_key: Option<CancelKey>,
    is_read_only: bool,
}

impl fmt::Debug for StartUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("StartUp");
        told.field("user", &self.user).finish_non_exhaustive()
    }
}

impl StartUp {
    /// Writes the start-up message.
    pub fn begin(
        endpoint: &Endpoint,
        application_name: &str,
        options: Option<&str>,
        out: &mut BytesMut,
    ) -> io::Result<Self> {
        let parameters = [
            ("client_encoding", "UTF8"),
            ("user", &endpoint.user),
            ("database", &endpoint.database),
            ("application_name", application_name),
        ];
        let options = options.map(|options| ("options", options));
        frontend::startup_message(parameters.into_iter().chain(options), out)?;
        Ok(Self {
            user: endpoint.user.clone(),
            password: endpoint.password.clone(),
            scram: None,
            channel_binding: None,
            wanted: endpoint.binding,
            is_bound: false,
            cancel_key: None,
            is_read_only: false,
        })
    }

    /// Sets the data that binds the proof of a password to an encrypted connection.
    pub fn bind_to(&mut self, channel_binding: Option<Vec<u8>>) {
        self.channel_binding = channel_binding;
    }

    /// Takes in the next message and writes the reply, if one is needed. `true` if the session is ready.
    pub fn take(&mut self, message: Message<'_>, out: &mut BytesMut) -> Result<bool, Failure> {
        let body = message.body.unwrap_or_default();
        match message.tag {
            backend::AUTHENTICATION_TAG => self.authenticate(body, out)?,
            backend::BACKEND_KEY_DATA_TAG => {
                // Only protocol 3.2 has longer secrets, and replbench did not ask for it.
                let (process_id, secret) = body
                    .split_first_chunk::<4>()
                    .and_then(|(id, secret)| Some((id, secret.first_chunk::<4>()?)))
                    .ok_or_else(|| Broken("a cancel key that is too short".into()))?;
                self.cancel_key = Some(CancelKey {
                    process_id: i32::from_be_bytes(*process_id),
                    secret: i32::from_be_bytes(*secret),
                });
            }
            backend::ERROR_RESPONSE_TAG => {
                return Err(ErrorOrNotice::of(message.body).failure());
            }
            backend::READY_FOR_QUERY_TAG => return Ok(true),
            backend::PARAMETER_STATUS_TAG => {
                let is_on = |name: &&str| body.strip_prefix(name.as_bytes()) == Some(b"\0on\0");
                self.is_read_only |= READ_ONLY.iter().any(is_on);
            }
            backend::NOTICE_RESPONSE_TAG => {}
            other => {
                let tag = char::from(other);
                return Err(Broken(format!("a message of type {tag:?} at the start")).into());
            }
        }
        Ok(false)
    }

    /// The session's cancel key; `None` if the server sent none.
    pub fn cancel_key(&self) -> Option<CancelKey> {
        self.cancel_key
    }

    /// Whether the server has reported that it accepts no writes.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn authenticate(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), Failure> {
        let failed = |error: io::Error| authentication(&error);
        let (kind, data) = body
            .split_first_chunk::<4>()
            .ok_or_else(|| Broken("authentication of no kind".into()))?;
        match u32::from_be_bytes(*kind) {
            kind::OK if self.wanted == ChannelBinding::Require && !self.is_bound => {
                Err(authentication(
                    "channel_binding=require, and the server did not bind the authentication to the connection",
                ))
            }
            kind::OK => Ok(()),
            kind::CLEARTEXT_PASSWORD => {
                frontend::password_message(self.password()?, out).map_err(failed)
            }
            kind::MD5_PASSWORD => {
                let salt = data.try_into();
                let salt = salt.map_err(|_| Broken("a salt that is not 4 bytes long".into()))?;
                let hash = md5_hash(self.user.as_bytes(), self.password()?, salt);
                frontend::password_message(hash.as_bytes(), out).map_err(failed)
            }
            kind::SASL => {
                let offers = |wanted: &str| {
                    let mut offered = data.split(|byte| *byte == 0);
                    offered.any(|it| it == wanted.as_bytes())
                };
                let own = self.channel_binding.take();
                let own = own.filter(|_| self.wanted != ChannelBinding::Disable);
                let (mechanism, binding) = match own {
                    Some(binding) if offers(SCRAM_SHA_256_PLUS) => {
                        self.is_bound = true;
                        let binding = sasl::ChannelBinding::tls_server_end_point(binding);
                        (SCRAM_SHA_256_PLUS, binding)
                    }
                    _ if self.wanted == ChannelBinding::Require => {
                        return Err(authentication(
                            "channel_binding=require needs an encrypted connection and a server that offers SCRAM-SHA-256-PLUS",
                        ));
                    }
                    Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
                    None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
                };
                if !offers(mechanism) {
                    return Err(authentication("the server offers no SCRAM-SHA-256"));
                }
                let scram = ScramSha256::new(self.password()?, binding);
                let scram = self.scram.insert(scram);
                frontend::sasl_initial_response(mechanism, scram.message(), out).map_err(failed)
            }
            kind::SASL_CONTINUE => {
                let scram = self.scram.as_mut().ok_or_else(unasked)?;
                scram.update(data).map_err(failed)?;
                frontend::sasl_response(scram.message(), out).map_err(failed)
            }
            kind::SASL_FINAL => {
                let scram = self.scram.as_mut().ok_or_else(unasked)?;
                scram.finish(data).map_err(failed)
            }
            other => Err(authentication(format!(
                "the server wants kind {other}, which is not supported; use a password (scram-sha-256)"
            ))),
        }
    }

    fn password(&self) -> Result<&[u8], Failure> {
        let password = self.password.as_ref();
        let password = password.ok_or_else(|| authentication("the server wants a password"))?;
        Ok(password.reveal().as_bytes())
    }
}

fn authentication(error: impl fmt::Display) -> Failure {
    Failure::lost(format!("authentication: {error}"))
}

fn unasked() -> Failure {
    Broken("SCRAM goes on without having begun".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start_up(password: Option<&str>) -> StartUp {
        let password = password.map(Password::new);
        let endpoint = Endpoint::on_loopback("primary", 5432, "replbench", password);
        StartUp::begin(&endpoint, "test", None, &mut BytesMut::new()).unwrap()
    }

    fn take(start_up: &mut StartUp, tag: u8, body: &[u8]) -> Result<bool, Failure> {
        let body = Some(body);
        start_up.take(Message { tag, body }, &mut BytesMut::new())
    }

    #[test]
    fn a_server_that_wants_what_there_is_not_is_told_apart() {
        let none = take(&mut start_up(None), b'R', &3_u32.to_be_bytes()).unwrap_err();
        assert!(none.to_string().contains("wants a password"), "{none}");
        let gss = take(&mut start_up(Some("x")), b'R', &7_u32.to_be_bytes()).unwrap_err();
        assert!(gss.to_string().contains("kind 7"), "{gss}");
        let unasked = take(&mut start_up(Some("x")), b'R', &11_u32.to_be_bytes()).unwrap_err();
        assert!(unasked.to_string().contains("SCRAM"), "{unasked}");
        let refused = b"SFATAL\0VFATAL\0C28P01\0Mno\0\0";
        let refused = take(&mut start_up(Some("x")), b'E', refused).unwrap_err();
        assert_eq!(refused.sqlstate.unwrap().code(), "28P01");
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_a_step_or_an_error(
            said in prop::collection::vec((any::<u8>(), 0_u32..14, prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        ) {
            let mut start_up = start_up(Some("secret"));
            for (tag, kind, rest) in &said {
                let mut body = kind.to_be_bytes().to_vec();
                body.extend(rest);
                let tag = if tag % 2 == 0 { b'R' } else { *tag };
                let _ = take(&mut start_up, tag, &body);
            }
        }
    }
}
