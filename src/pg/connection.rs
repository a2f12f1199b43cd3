//! Connects with a deadline, counts warnings about replication, and turns driver errors into sentences.

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::ChannelBinding;
use super::tls::Tls;

/// Parameters that a server reports at the start of a session. If one of them is `on`, the server accepts no writes.
pub(super) const READ_ONLY: [&str; 2] = ["in_hot_standby", "default_transaction_read_only"];

/// Why a server cannot be used if one of the parameters `READ_ONLY` is `on`.
pub const TAKES_NO_WRITES: &str = "it is a standby or read-only, and takes no writes";

/// A password that no formatter prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for a connection or a file that only its owner reads.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Where and as whom to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The node's name, for messages.
    pub node: String,
    /// A name, an address, or the directory of a Unix-domain socket, which begins with a slash.
    pub host: String,
    /// The address to connect to, if `host` is not to be looked up by name.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Password>,
    /// `None` if connections are not encrypted.
    pub tls: Option<Tls>,
    pub binding: ChannelBinding,
    /// Settings of every session, such as `-c statement_timeout=0`.
    pub options: Option<String>,
}

impl Endpoint {
    /// An endpoint on this machine, not encrypted, whose user and database are both called `name`.
    pub fn on_loopback(node: &str, port: u16, name: &str, password: Option<Password>) -> Self {
        Self {
            node: node.to_owned(),
            host: "127.0.0.1".into(),
            address: None,
            port,
            database: name.to_owned(),
            user: name.to_owned(),
            password,
            tls: None,
            binding: ChannelBinding::Prefer,
            options: None,
        }
    }

    /// The same server, with this setting in every session.
    #[must_use]
    pub fn with_options(&self, option: &str) -> Self {
        Self {
            options: self.options_with(Some(option)),
            ..self.clone()
        }
    }

    /// The settings of a session: those of every session, then its own, which take precedence.
    pub(super) fn options_with(&self, own: Option<&str>) -> Option<String> {
        let all: Vec<_> = self.options.as_deref().into_iter().chain(own).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// Host and port, for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.into(),
            ..self.clone()
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{node}` at {address} refused the connection: {failure}")]
    Refused {
        node: String,
        address: String,
        failure: Failure,
    },
    #[error("`{node}` at {address} did not answer within {seconds} s; is something else listening there?", seconds = .deadline.as_secs_f64())]
    Silent {
        node: String,
        address: String,
        deadline: Duration,
    },
}

impl ConnectError {
    /// The SQLSTATE with which the server refused the connection; `None` if the failure was not reported by the server.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Refused { failure, .. } => failure.sqlstate.as_ref(),
            Self::Silent { .. } => None,
        }
    }
}

/// A driver error as data: its SQLSTATE, if the server sent one, and a sentence that includes the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub sqlstate: Option<SqlState>,
    pub message: String,
    /// Whether the connection was lost, so that it is unknown whether the transaction committed.
    pub connection_lost: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(state) => write!(f, "{} (SQLSTATE {})", self.message, state.code()),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self {
            sqlstate: error.sqlstate().cloned(),
            ..Self::lost(error.to_string())
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        describe(&error)
    }
}

impl Failure {
    /// A lost connection, for a reason that the server did not report.
    pub fn lost(message: impl Into<String>) -> Self {
        Self {
            sqlstate: None,
            message: message.into(),
            connection_lost: true,
        }
    }

    /// An error that the server sent.
    pub(super) fn of_server(
        sqlstate: Option<SqlState>,
        mut message: String,
        detail: Option<&str>,
    ) -> Self {
        if let Some(detail) = detail {
            message.push_str("; ");
            message.push_str(detail);
        }
        // 57P01 to 57P03 end the session; class 08 is a broken connection.
        let ends_session = |code: &SqlState| {
            let ends = [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
            ];
            ends.contains(code) || code.code().starts_with("08")
        };
        Self {
            connection_lost: sqlstate.as_ref().is_some_and(ends_session),
            sqlstate,
            message,
        }
    }
}

/// Describes a driver error, whose own text is only "db error", by its causes and its SQLSTATE.
pub fn describe(error: &tokio_postgres::Error) -> Failure {
    if let Some(db) = error.as_db_error() {
        return Failure::of_server(
            Some(db.code().clone()),
            db.message().to_owned(),
            db.detail(),
        );
    }
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    Failure {
        sqlstate: None,
        message,
        connection_lost: true,
    }
}

/// The number of warnings on one connection that a commit "may not have been replicated".
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<AtomicU64>);

impl Warnings {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An open connection. A separate task reads its messages and ends with the client.
#[derive(Debug)]
pub struct Session {
    client: Client,
    warnings: Warnings,
    takes_writes: bool,
    reader: JoinHandle<()>,
}

impl Session {
    /// Whether the server accepted writes when the session was opened: it was not a standby, and its transactions were not read-only by
    /// default.
    pub fn takes_writes(&self) -> bool {
        self.takes_writes
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Closes the session, and waits at most a second until the connection is gone.
    pub async fn close(self) {
        drop(self.client);
        let abort = self.reader.abort_handle();
        if tokio::time::timeout(Duration::from_secs(1), self.reader)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
}

/// Connects within `deadline`, which covers TCP, TLS, start-up and authentication together.
///
/// `options` are settings of the session, such as `-c synchronous_commit=off`.
pub async fn connect(
    endpoint: &Endpoint,
    application_name: &str,
    options: Option<&str>,
    deadline: Duration,
) -> Result<Session, ConnectError> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&endpoint.host)
        .port(endpoint.port)
        .dbname(&endpoint.database)
        .user(&endpoint.user)
        .application_name(application_name)
        .channel_binding(endpoint.binding)
        .connect_timeout(deadline);
    if let Some(password) = &endpoint.password {
        config.password(password.reveal());
    }
    if let Some(options) = endpoint.options_with(options) {
        config.options(options);
    }
    if let Some(address) = endpoint.address {
        config.hostaddr(address);
    }
    // The future is boxed because the state of a TLS connection is large.
    let opened = Box::pin(open(config, endpoint.tls.as_ref()));
    let connected =
        tokio::time::timeout(deadline, opened)
            .await
            .map_err(|_| ConnectError::Silent {
                node: endpoint.node.clone(),
                address: endpoint.place(),
                deadline,
            })?;
    connected.map_err(|error| ConnectError::Refused {
        node: endpoint.node.clone(),
        address: endpoint.place(),
        failure: describe(&error),
    })
}

async fn open(
    mut config: tokio_postgres::Config,
    tls: Option<&Tls>,
) -> Result<Session, tokio_postgres::Error> {
    match tls {
        None => {
            let connected = config.ssl_mode(SslMode::Disable).connect(NoTls).await;
            connected.map(|(client, connection)| listen(client, connection))
        }
        Some(tls) => {
            let connector = MakeRustlsConnect::new(tls.config().clone());
            let connected = config.ssl_mode(SslMode::Require).connect(connector).await;
            connected.map(|(client, connection)| listen(client, connection))
        }
    }
}

/// Reads the server's messages in a separate task.
fn listen<S, T>(client: Client, mut connection: Connection<S, T>) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let warnings = Warnings::default();
    let counter = warnings.clone();
    let takes_writes = !READ_ONLY
        .iter()
        .any(|name| connection.parameter(name) == Some("on"));
    let reader = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                // A commit whose wait for synchronous replication was cancelled reports success; only this warning shows that it may not be
                // replicated. It is known by its source file, because the server may write messages in any language.
                Ok(AsyncMessage::Notice(notice))
                    if notice.code() == &SqlState::WARNING
                        && notice.file() == Some("syncrep.c") =>
                {
                    counter.0.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    });
    Session {
        client,
        warnings,
        takes_writes,
        reader,
    }
}

/// The text as an SQL string literal. Any text is safe, because `standard_conforming_strings` is on by default since PostgreSQL 9.1.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::quote_ident;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(
            quote_ident(r#"x"; DROP SCHEMA public; --"#),
            r#""x""; DROP SCHEMA public; --""#
        );
        assert_eq!(quote_literal("it's"), "'it''s'");
    }

    #[test]
    fn a_password_is_never_printed() {
        let password = Some(Password::new("hunter2"));
        let endpoint = Endpoint::on_loopback("primary", 5432, "replbench", password);
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
