//! Finds the one server that a connection string means, and how it is reached, once: every later session goes the same way.

use std::time::Duration;

use super::conninfo::{Host, Parameters, SslMode, Target};
use super::tls::{Tls, TlsError};
use super::{ConnectError, Endpoint, Failure, Password, Session, connect, describe};

/// For each server where no `connect_timeout` says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// None of the servers that a connection string names will do.
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
    /// Whether libpq would not ask another server either: this one is there, and refuses this user.
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

/// Tries the servers in order, each encrypted or not as `sslmode` has it. The first that will do, with a session on it.
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

/// Connects to one server, encrypted or not, whatever of both is allowed and works.
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
            // A server that says nothing says nothing in clear text either.
            Err(error @ ConnectError::Silent { .. }) => return Err(error.into()),
            Err(error) => errors.push(LocateError::from(error)),
        }
    }
    // What the server itself says tells more than that it cannot encrypt; the same reason once.
    let is_said = |error: &LocateError| match error {
        LocateError::Connect(error) => error.sqlstate().is_some(),
        _ => false,
    };
    if errors.iter().any(is_said) {
        errors.retain(is_said);
    } else if parameters.ssl.mode == SslMode::Prefer {
        // That it cannot encrypt is no error there.
        errors.drain(..errors.len().saturating_sub(1));
    }
    errors.dedup_by_key(|error| error.to_string());
    Err(one_of(errors))
}

/// Encrypted or not, in the order in which they are tried.
fn ways(mode: SslMode, host: &Host) -> &'static [bool] {
    match mode {
        _ if host.name.starts_with('/') && host.address.is_none() => &[false],
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    }
}

/// Whether a server is what was asked for.
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
