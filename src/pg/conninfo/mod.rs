//! Connection strings as libpq reads them, in both forms, completed from a service, the environment, a password file and defaults. Source:
//! PostgreSQL's manual, "Database Connection Control Functions". Connects to nothing.

mod files;
mod surroundings;
mod text;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use tokio_postgres::config::ChannelBinding;

use super::Password;
pub use surroundings::{OwnSurroundings, Surroundings};
use text::Pairs;

/// Why a connection string cannot be used. No message contains a password.
#[derive(Debug, thiserror::Error)]
pub enum ConninfoError {
    #[error(
        "unknown keyword `{0}` in a connection string; keywords are those of libpq, such as host, port, dbname and user"
    )]
    UnknownKey(String),
    #[error("`{key}={value}` asks for what replbench does not support; leave `{key}` out")]
    Unsupported { key: &'static str, value: String },
    #[error("`=` is missing after `{0}`; write `key=value ...` or `postgresql://...`")]
    NoEquals(String),
    #[error("the quoted value of `{0}` does not end; add a `'`")]
    Unterminated(String),
    #[error(
        "no closing bracket, or something unexpected after it, in the address `{0}`; write `[::1]:5432`"
    )]
    Brackets(String),
    #[error("`{0}` has a percent sign that begins no byte; write `%25` for the sign itself")]
    Percent(String),
    #[error("`{value}` is no value of `{key}`; {known}")]
    Value {
        key: &'static str,
        value: String,
        known: &'static str,
    },
    #[error("{ports} ports for {hosts} hosts; name one port, or one for each host")]
    Ports { ports: usize, hosts: usize },
    #[error("{addresses} values of `hostaddr` for {hosts} hosts; name one for each host")]
    Addresses { addresses: usize, hosts: usize },
    #[error("there is no service `{name}` in {files}")]
    NoService { name: String, files: String },
    #[error("the service `{0}` names a service itself; name that one instead")]
    NestedService(String),
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
}

/// A parsed connection string that has not been completed yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Conninfo(Pairs);

/// Prints the keywords without their values, because one of them may be a password.
impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Prints `key=value ...`, without the password.
impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().filter(|(key, _)| **key != "password");
        for (index, (key, value)) in shown.enumerate() {
            let space = if index == 0 { "" } else { " " };
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            if value.is_empty() || value.contains(char::is_whitespace) {
                write!(f, "{space}{key}='{value}'")?;
            } else {
                write!(f, "{space}{key}={value}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Conninfo {
    type Err = ConninfoError;

    fn from_str(text: &str) -> Result<Self, ConninfoError> {
        text::parse(text).map(Self)
    }
}

/// The name under which a standby receives, from its walreceiver's connection string. The string was written by the server, so unknown
/// keywords are accepted.
pub fn application_name(text: &str) -> Result<Option<String>, ConninfoError> {
    let pairs = text::split(text)?;
    let of = |wanted: &str| {
        let mut found = pairs
            .iter()
            .filter(|(key, value)| *key == wanted && !value.is_empty());
        found.next().map(|(_, value)| value.clone())
    };
    Ok(of("application_name").or_else(|| of("fallback_application_name")))
}

/// Whether libpq has a keyword of this name.
pub fn is_keyword(word: &str) -> bool {
    text::is_keyword(word)
}

/// One of the servers that a connection string names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name or an address, or the directory of a Unix-domain socket, which begins with a slash.
    pub name: String,
    /// The address to connect to, if `name` is not to be looked up.
    pub address: Option<String>,
    pub port: u16,
}

/// `sslmode`: whether a connection is encrypted, and how much of the server's certificate is checked. The modes are in rising order of
/// strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server refuses an unencrypted connection.
    Allow,
    /// Encrypted if the server supports it.
    Prefer,
    /// Always encrypted. As in the modes before, any certificate is accepted unless root certificates are available.
    Require,
    /// The certificate must be signed by a trusted root.
    VerifyCa,
    /// The certificate must be signed by a trusted root and issued for this host.
    VerifyFull,
}

/// `target_session_attrs`: the role that a server must have to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby or, if there is none, any server.
    PreferStandby,
}

/// The settings for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssl {
    pub mode: SslMode,
    /// A file of root certificates, or the word `system`.
    pub root: Option<String>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether the proof of a password is bound to the encrypted connection that carries it.
    pub binding: ChannelBinding,
}

/// Everything that is needed to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The servers in the order in which they are tried, each with its password; never empty.
    pub hosts: Vec<(Host, Option<Password>)>,
    pub database: String,
    pub user: String,
    /// Settings of the session.
    pub options: Option<String>,
    /// The time-out for each host, for TCP, TLS and authentication together. `None` if the connection string sets no limit.
    pub connect_timeout: Option<Duration>,
    pub target: Target,
    pub ssl: Ssl,
    /// Warnings about the files that were read.
    pub warnings: Vec<String>,
}

/// The directories in which a socket is looked for when no host is named: Debian's and PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl Conninfo {
    /// Fills in missing settings: from the service named by the connection string or `PGSERVICE`, then from the environment, then from
    /// defaults.
    pub fn complete(self, here: &impl Surroundings) -> Result<Parameters, ConninfoError> {
        let mut pairs = self.0;
        take_service(&mut pairs, here)?;
        for (key, variable) in text::USED {
            if let Some(value) = here.variable(variable) {
                pairs.entry(key).or_insert(value);
            }
        }
        // As in libpq, an empty value stands for the default.
        pairs.retain(|_, value| !value.is_empty());
        let user = pairs.get("user").cloned().or_else(|| here.user());
        let user = user.unwrap_or_else(|| "postgres".into());
        let database = pairs.get("dbname").unwrap_or(&user).clone();
        let mut warnings = Vec::new();
        let passwords = match pairs.get("password") {
            Some(_) => None,
            None => passfile(&pairs, here, &mut warnings),
        };
        let hosts = hosts(&pairs)?.into_iter().map(|host| {
            let own = pairs.get("password").cloned();
            let found = || files::password(passwords.as_deref()?, &host, &database, &user);
            let password = own.or_else(found).map(Password::new);
            (host, password)
        });
        Ok(Parameters {
            hosts: hosts.collect(),
            options: pairs.get("options").cloned(),
            connect_timeout: timeout(&pairs)?,
            target: target(&pairs)?,
            ssl: ssl(&pairs, here)?,
            database,
            user,
            warnings,
        })
    }
}

fn take_service(pairs: &mut Pairs, here: &impl Surroundings) -> Result<(), ConninfoError> {
    let named = pairs
        .remove("service")
        .or_else(|| here.variable("PGSERVICE"));
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let own = here.variable("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| home(here, ".pg_service.conf"));
    let system = here
        .variable("PGSYSCONFDIR")
        .unwrap_or_else(|| "/etc/postgresql-common".into());
    let system = Path::new(&system).join("pg_service.conf");
    let searched: Vec<_> = own.into_iter().chain([system]).collect();
    for path in &searched {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(ConninfoError::File {
                    path: path.clone(),
                    source,
                });
            }
        };
        if files::service(&text, &name, pairs)? {
            return Ok(());
        }
    }
    let searched: Vec<_> = searched.iter().map(|it| it.display().to_string()).collect();
    Err(ConninfoError::NoService {
        name,
        files: searched.join(" and "),
    })
}

/// The path of a file in the user's home directory; `None` if `HOME` is not set.
fn home(here: &impl Surroundings, file: &str) -> Option<PathBuf> {
    here.variable("HOME")
        .map(|home| Path::new(&home).join(file))
}

/// The contents of the password file; `None` if there is no file that only its owner can read.
fn passfile(pairs: &Pairs, here: &impl Surroundings, warnings: &mut Vec<String>) -> Option<String> {
    let path = pairs
        .get("passfile")
        .map(PathBuf::from)
        .or_else(|| home(here, ".pgpass"))?;
    let metadata = fs::metadata(&path).ok()?;
    let shown = path.display();
    if !metadata.is_file() {
        warnings.push(format!(
            "the password file {shown} is no plain file and was ignored"
        ));
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        warnings.push(format!(
            "the password file {shown} may be read by others and was ignored, as libpq does; `chmod 600` it"
        ));
        return None;
    }
    match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            warnings.push(format!(
                "the password file {shown} cannot be read and was ignored: {error}"
            ));
            None
        }
    }
}

fn hosts(pairs: &Pairs) -> Result<Vec<Host>, ConninfoError> {
    let list = |key| {
        pairs
            .get(key)
            .map_or_else(Vec::new, |it| it.split(',').map(str::trim).collect())
    };
    let (names, addresses, ports): (Vec<_>, Vec<_>, Vec<_>) =
        (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(ConninfoError::Addresses {
            addresses: addresses.len(),
            hosts: names.len(),
        });
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(ConninfoError::Ports {
            ports: ports.len(),
            hosts: count,
        });
    }
    (0..count)
        .map(|index| {
            let port = match ports
                .get(index)
                .or_else(|| ports.first().filter(|_| ports.len() == 1))
            {
                None | Some(&"") => 5432,
                Some(text) => match text.parse() {
                    Ok(port) if port != 0 => port,
                    _ => return Err(value("port", text, "it is a number from 1 to 65535")),
                },
            };
            let address = addresses.get(index).filter(|it| !it.is_empty());
            let name = names.get(index).filter(|it| !it.is_empty()).or(address);
            Ok(Host {
                name: name.map_or_else(|| socket_directory(port), |it| (*it).to_owned()),
                address: address.map(|it| (*it).to_owned()),
                port,
            })
        })
        .collect()
}

/// The directory in which a server on this machine has its socket; Debian's directory if there is no socket.
fn socket_directory(port: u16) -> String {
    let socket = format!(".s.PGSQL.{port}");
    let has_socket = |directory: &&&str| Path::new(directory).join(&socket).exists();
    let found = SOCKET_DIRECTORIES.iter().find(has_socket);
    (*found.unwrap_or(&SOCKET_DIRECTORIES[0])).to_owned()
}

fn value(key: &'static str, value: &str, known: &'static str) -> ConninfoError {
    ConninfoError::Value {
        key,
        value: value.to_owned(),
        known,
    }
}

fn timeout(pairs: &Pairs) -> Result<Option<Duration>, ConninfoError> {
    let Some(text) = pairs.get("connect_timeout") else {
        return Ok(None);
    };
    let wrong = |_| {
        value(
            "connect_timeout",
            text,
            "it is a whole number of seconds, 0 for no bound",
        )
    };
    let seconds: i32 = text.trim().parse().map_err(wrong)?;
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

fn target(pairs: &Pairs) -> Result<Target, ConninfoError> {
    let Some(text) = pairs.get("target_session_attrs") else {
        return Ok(Target::Any);
    };
    Ok(match text.as_str() {
        "any" => Target::Any,
        "read-write" => Target::ReadWrite,
        "read-only" => Target::ReadOnly,
        "primary" => Target::Primary,
        "standby" => Target::Standby,
        "prefer-standby" => Target::PreferStandby,
        other => {
            let known =
                "values are any, read-write, read-only, primary, standby and prefer-standby";
            return Err(value("target_session_attrs", other, known));
        }
    })
}

fn ssl(pairs: &Pairs, here: &impl Surroundings) -> Result<Ssl, ConninfoError> {
    let root = pairs.get("sslrootcert").cloned();
    let is_system = root.as_deref() == Some("system");
    let mode = match pairs.get("sslmode").map(String::as_str) {
        None if is_system => SslMode::VerifyFull,
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        None | Some("prefer") => SslMode::Prefer,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(other) => {
            let known = "values are disable, allow, prefer, require, verify-ca and verify-full";
            return Err(value("sslmode", other, known));
        }
    };
    if is_system && mode != SslMode::VerifyFull {
        let text = pairs.get("sslmode").map_or("", String::as_str);
        return Err(value(
            "sslmode",
            text,
            "with sslrootcert=system only verify-full will do",
        ));
    }
    let existing = |file: &str| {
        home(here, ".postgresql")
            .map(|it| it.join(file))
            .filter(|it| it.exists())
    };
    let named = |key| pairs.get(key).map(PathBuf::from);
    Ok(Ssl {
        mode,
        root: root.or_else(|| existing("root.crt").map(|it| it.to_string_lossy().into_owned())),
        certificate: named("sslcert").or_else(|| existing("postgresql.crt")),
        key: named("sslkey").or_else(|| existing("postgresql.key")),
        binding: channel_binding(pairs)?,
    })
}

fn channel_binding(pairs: &Pairs) -> Result<ChannelBinding, ConninfoError> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[derive(Default)]
    struct Fixed(BTreeMap<&'static str, String>);

    impl Surroundings for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }

        fn user(&self) -> Option<String> {
            Some("somebody".into())
        }
    }

    fn complete(
        text: &str,
        variables: &[(&'static str, &str)],
    ) -> Result<Parameters, ConninfoError> {
        let variables = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let here = Fixed(variables.collect());
        text.parse::<Conninfo>()?.complete(&here)
    }

    #[test]
    fn what_is_said_beats_the_environment_and_that_the_defaults() {
        let found = complete(
            "host=a user=me",
            &[("PGHOST", "b"), ("PGPORT", "6"), ("PGSSLMODE", "disable")],
        )
        .unwrap();
        let (host, password) = &found.hosts[0];
        assert_eq!((host.name.as_str(), host.port), ("a", 6));
        assert_eq!(
            (found.database.as_str(), found.ssl.mode),
            ("me", SslMode::Disable)
        );
        assert_eq!(
            (password, found.connect_timeout, found.target),
            (&None, None, Target::Any)
        );
        let alone = complete("", &[]).unwrap();
        assert_eq!(
            (alone.user.as_str(), alone.database.as_str()),
            ("somebody", "somebody")
        );
        assert!(alone.hosts[0].0.name.starts_with('/'), "{:?}", alone.hosts);
        assert_eq!(alone.ssl.mode, SslMode::Prefer);
    }

    #[test]
    fn several_hosts_have_a_port_each_or_one_for_all() {
        let found = complete(
            "host=a,b port=1,2 target_session_attrs=read-write connect_timeout=3",
            &[],
        )
        .unwrap();
        let ports: Vec<_> = found.hosts.iter().map(|(host, _)| host.port).collect();
        assert_eq!((ports, found.target), (vec![1, 2], Target::ReadWrite));
        assert_eq!(found.connect_timeout, Some(Duration::from_secs(3)));
        let one = complete("host=a,b port=7", &[]).unwrap();
        assert!(one.hosts.iter().all(|(host, _)| host.port == 7));
        assert!(complete("host=a,b,c port=1,2", &[]).is_err());
        assert!(complete("host=a,b hostaddr=127.0.0.1", &[]).is_err());
        let numeric = complete("host=name hostaddr=127.0.0.1", &[]).unwrap();
        assert_eq!(numeric.hosts[0].0.address.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn wrong_values_are_named_with_those_that_exist() {
        for (text, part) in [
            ("port=x", "65535"),
            ("port=0", "65535"),
            ("sslmode=maybe", "verify-ca"),
            ("target_session_attrs=rw", "read-write"),
            ("connect_timeout=soon", "seconds"),
            ("sslrootcert=system sslmode=require", "verify-full"),
        ] {
            let said = complete(text, &[]).unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn files_are_read_and_a_password_that_others_can_read_is_not() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
        write(".pgpass", "b:6:*:*:canary\n");
        write(".pg_service.conf", "[s]\nhost=b\nport=6\n");
        let own = home.path().to_str().unwrap();
        let passfile = home.path().join(".pgpass");
        let permit =
            |mode| fs::set_permissions(&passfile, fs::Permissions::from_mode(mode)).unwrap();
        permit(0o600);
        let found = complete("service=s", &[("HOME", own)]).unwrap();
        let (host, password) = &found.hosts[0];
        assert_eq!((host.name.as_str(), host.port), ("b", 6));
        assert_eq!(password.as_ref().unwrap().reveal(), "canary");
        assert!(!format!("{found:?}").contains("canary"));
        permit(0o644);
        let found = complete("service=s", &[("HOME", own)]).unwrap();
        assert_eq!(found.hosts[0].1, None);
        assert!(
            found.warnings[0].contains("chmod 600"),
            "{:?}",
            found.warnings
        );
        let missing = complete("service=t", &[("HOME", own)])
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("`t`") && missing.contains(".pg_service.conf"),
            "{missing}"
        );
    }

    #[test]
    fn no_formatter_shows_a_password() {
        let parsed: Conninfo = "password=canary user=it\\'s dbname='a b'".parse().unwrap();
        assert!(!format!("{parsed:?}").contains("canary"));
        let shown = parsed.to_string();
        assert_eq!(shown, r"dbname='a b' user=it\'s");
        let again: Conninfo = shown.parse().unwrap();
        assert_eq!(again.to_string(), shown);
    }
}
