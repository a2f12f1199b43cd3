//! Finds the one server that a connection string means, and how to reach it. This is done once: every later session uses the same endpoint.

use std::time::Duration;

use super::conninfo::{Host, Parameters, SslMode, Target};
use super::tls::{Tls, TlsError};
use super::{ConnectError, Endpoint, Failure, Password, Session, connect, describe};

/// The time-out for each server if the connection string has no `connect_timeout`.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why none of the servers in a connection string can be used.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("`{node}` at {place} is {is}, and target_session_attrs asks for {wanted}")]
    OtherRole {
        node: String,
        place: String,
        is: &'static str,
        wanted: &'static str,
    },
    #[error("`{node}` at {place} does not say what it is: {failure}")]
    Mute {
        node: String,
        place: String,
        failure: Failure,
    },
    #[error("{}", list(.0))]
    Several(Vec<LocateError>),
    #[error("`{0}` in hostaddr is no address")]
    Address(String),
}

fn list(errors: &[LocateError]) -> String {
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

impl LocateError {
    /// Whether no further server is tried, as in libpq: this server exists and refuses the user, or a setting of the connection string is
    /// wrong.
    fn is_final(&self) -> bool {
        let of_server = |error: &ConnectError| {
            let state = error.sqlstate();
            state.is_some_and(|state| state.code().starts_with("28"))
        };
        match self {
            Self::Tls(_) | Self::Address(_) => true,
            Self::Connect(error) => of_server(error),
            Self::Several(errors) => errors.iter().any(Self::is_final),
            Self::OtherRole { .. } | Self::Mute { .. } => false,
        }
    }
}

/// Tries the servers in order, each encrypted or not as `sslmode` requires. Returns the first that suits, with an open session.
pub async fn locate(
    node: &str,
    parameters: &Parameters,
    application_name: &str,
) -> Result<(Endpoint, Session), LocateError> {
    let passes = match parameters.target {
        Target::PreferStandby => vec![Target::Standby, Target::Any],
        other => vec![other],
    };
    let mut errors = Vec::new();
    for target in passes {
        errors.clear();
        for (host, password) in &parameters.hosts {
            let server = (host, password.as_ref());
            let tried = reach(node, parameters, server, application_name).await;
            let suits = match tried {
                Ok((endpoint, session)) => suits(&endpoint, &session, target)
                    .await
                    .map(|()| (endpoint, session)),
                Err(error) => Err(error),
            };
            match suits {
                Ok(found) => return Ok(found),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => errors.push(error),
            }
        }
    }
    Err(one_of(errors))
}

fn one_of(mut errors: Vec<LocateError>) -> LocateError {
    if errors.len() == 1 {
        errors.remove(0)
    } else {
        LocateError::Several(errors)
    }
}

/// Connects to one server in the first way, encrypted or not, that `sslmode` permits and that works.
async fn reach(
    node: &str,
    parameters: &Parameters,
    (host, password): (&Host, Option<&Password>),
    application_name: &str,
) -> Result<(Endpoint, Session), LocateError> {
    let deadline = parameters.connect_timeout.unwrap_or(DEADLINE);
    let mut errors = Vec::new();
    for encrypts in ways(parameters.ssl.mode, host) {
        let tls = encrypts.then(|| Tls::new(&parameters.ssl, &host.name));
        let address = host.address.as_ref().map(|text| {
            let parsed = text.parse();
            parsed.map_err(|_| LocateError::Address(text.clone()))
        });
        let endpoint = Endpoint {
            node: node.to_owned(),
            host: host.name.clone(),
            address: address.transpose()?,
            port: host.port,
            database: parameters.database.clone(),
            user: parameters.user.clone(),
            password: password.cloned(),
            tls: tls.transpose()?,
            binding: parameters.ssl.binding,
            options: parameters.options.clone(),
        };
        match connect(&endpoint, application_name, None, deadline).await {
            Ok(session) => return Ok((endpoint, session)),
            // A server that did not answer is not tried in the other way, because it would not answer then either.
            Err(error @ ConnectError::Silent { .. }) => return Err(error.into()),
            Err(error) => errors.push(LocateError::from(error)),
        }
    }
    // An error that the server itself reported is more useful than one about encryption, so only such errors are kept if there is one. The
    // same reason is kept once.
    let is_said = |error: &LocateError| match error {
        LocateError::Connect(error) => error.sqlstate().is_some(),
        _ => false,
    };
    if errors.iter().any(is_said) {
        errors.retain(is_said);
    } else if parameters.ssl.mode == SslMode::Prefer {
        // With `prefer` a server that cannot encrypt is no error, so only the last error is kept.
        errors.drain(..errors.len().saturating_sub(1));
    }
    errors.dedup_by_key(|error| error.to_string());
    Err(one_of(errors))
}

/// Whether to encrypt, for each attempt in the order of the attempts.
fn ways(mode: SslMode, host: &Host) -> &'static [bool] {
    match mode {
        _ if host.name.starts_with('/') && host.address.is_none() => &[false],
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    }
}

/// Checks that a server has the role that `target_session_attrs` asks for.
async fn suits(endpoint: &Endpoint, session: &Session, target: Target) -> Result<(), LocateError> {
    if target == Target::Any {
        return Ok(());
    }
    let sql = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool";
    let row = session.client().query_one(sql, &[]).await;
    let row = row.map_err(|error| LocateError::Mute {
        node: endpoint.node.clone(),
        place: endpoint.place(),
        failure: describe(&error),
    })?;
    let (in_recovery, read_only): (bool, bool) = (row.get(0), row.get(1));
    let (fits, wanted) = match target {
        Target::Any => (true, "any server"),
        Target::ReadWrite => (!in_recovery && !read_only, "read-write"),
        Target::ReadOnly => (in_recovery || read_only, "read-only"),
        Target::Primary => (!in_recovery, "primary"),
        Target::Standby | Target::PreferStandby => (in_recovery, "standby"),
    };
    if fits {
        return Ok(());
    }
    Err(LocateError::OtherRole {
        node: endpoint.node.clone(),
        place: endpoint.place(),
        is: match (in_recovery, read_only) {
            (true, _) => "a standby",
            (false, true) => "a read-only primary",
            (false, false) => "a primary",
        },
        wanted,
    })
}
