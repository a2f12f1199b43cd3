//! The arguments that name existing servers or a compose file.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::anyhow;
use clap::{ArgGroup, Args};
use serde::Deserialize;

use super::signals::interruptible;
use super::{Exit, OrExit as _, Stop, note};
use crate::cluster::existing::{self, Survey};
use crate::cluster::{ClusterError, ComposeFile, NamedServer, Servers};
use crate::mode::Given;
use crate::pg::attach::Receiver;
use crate::pg::conninfo::{self, Conninfo, Host, OwnSurroundings, Parameters};
use crate::plan::{OWN_SCHEMA, Overrides, VisibilityMethod};
use crate::run::GivenServers;

#[derive(Debug, Clone, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
#[command(next_help_heading = "Servers, instead of a cluster made for the run")]
#[command(group(ArgGroup::new("existing").args(["primary", "servers"])))]
pub(super) struct ServerArgs {
    /// A primary that exists, as libpq takes it: `key=value ...` or a URI; PGHOST, PGPASSWORD, PGSERVICE, ~/.pgpass and the like count
    #[arg(long, value_name = "CONNINFO")]
    primary: Option<String>,

    /// A standby of it; may be given several times. Its name is the one under which it replicates
    #[arg(long, value_name = "[NAME=]CONNINFO", requires = "primary")]
    standby: Vec<String>,

    /// A server that is to subscribe to it for the run; may be given several times. Its name is sub1, sub2... unless one is given
    #[arg(long, value_name = "[NAME=]CONNINFO", requires = "primary")]
    subscriber: Vec<String>,

    /// How subscribers reach the primary, where they do not reach it as this machine does
    #[arg(long, value_name = "CONNINFO", requires = "subscriber")]
    publisher: Option<String>,

    /// Let modes change `synchronous_standby_names` of the primary, for all its sessions; it is put back at the end
    #[arg(long, requires = "existing")]
    set_sync: bool,

    /// Let faults befall servers that exist: pause-replay, long-query and apply-error, which everybody notices who uses them
    #[arg(long, requires = "existing")]
    allow_faults: bool,

    /// Load servers that are not on this machine: they are yours, and the load may hurt whoever uses them
    #[arg(long, requires = "existing")]
    i_own_this: bool,

    /// A TOML file that names them instead: `primary = "CONNINFO"`, tables `[standby]` and `[subscriber]` with `name = "CONNINFO"`, `publisher`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["primary", "standby", "subscriber", "publisher"])]
    servers: Option<PathBuf>,

    /// A compose file whose services bear the label replbench.role: docker compose starts it for the run, and all of it is removed
    #[arg(long, value_name = "compose:FILE", conflicts_with_all = ["primary", "servers"])]
    cluster: Option<ComposePath>,

    /// Leave the servers of the compose file running after the run
    #[arg(long, requires = "cluster")]
    keep: bool,
}

/// `compose:FILE`.
#[derive(Debug, Clone)]
struct ComposePath(PathBuf);

impl FromStr for ComposePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("compose", file)) if !file.is_empty() => Ok(Self(file.into())),
            _ => Err(
                "a cluster is written compose:FILE, such as compose:compose/physical.yaml".into(),
            ),
        }
    }
}

impl ServerArgs {
    /// The servers that the arguments name, which are also entered in `overrides`. `None` if replbench makes its own servers.
    pub(super) fn given(&self, overrides: &mut Overrides) -> Result<Option<GivenServers>, Stop> {
        if let Some(ComposePath(path)) = &self.cluster {
            let read = async |_| ComposeFile::read(path).await.map_err(ClusterError::from);
            let file = interruptible(read)?;
            let mut nodes = file.nodes();
            if self.keep {
                let reason = "--keep leaves the servers as the file made them, and the old primary would not be one of them";
                nodes.never_failed_over = Some(reason.into());
            }
            overrides.given = Some(Given::Compose(nodes));
            return Ok(Some(GivenServers::Compose {
                file: Arc::new(file),
                is_kept: self.keep,
            }));
        }
        let Some(servers) = self.servers()? else {
            return Ok(None);
        };
        let servers = survey(servers, overrides)?;
        Ok(Some(GivenServers::Existing(Arc::new(servers))))
    }

    fn servers(&self) -> Result<Option<Servers>, Stop> {
        let written = match (&self.servers, &self.primary) {
            (Some(file), _) => Written::in_file(file)?,
            (None, Some(primary)) => Written {
                primary: primary.clone(),
                standbys: self.standby.iter().map(|it| named(it)).collect(),
                subscribers: self.subscriber.iter().map(|it| named(it)).collect(),
                publisher: self.publisher.clone(),
            },
            (None, None) => return Ok(None),
        };
        Ok(Some(Servers {
            primary: read(&written.primary)?,
            standbys: read_all(written.standbys)?,
            subscribers: read_all(written.subscribers)?,
            publisher: written.publisher,
            may_load: self.i_own_this,
            may_set: self.set_sync,
            may_disturb: self.allow_faults,
            schema: OWN_SCHEMA.into(),
        }))
    }
}

/// Connection strings as they are written, each replica's with its name if one is given.
struct Written {
    primary: String,
    standbys: Vec<(Option<String>, String)>,
    subscribers: Vec<(Option<String>, String)>,
    publisher: Option<String>,
}

/// The contents of the file of `--servers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServersFile {
    primary: String,
    #[serde(default)]
    standby: toml::Table,
    #[serde(default)]
    subscriber: toml::Table,
    publisher: Option<String>,
}

impl Written {
    fn in_file(path: &Path) -> Result<Self, Stop> {
        let refuse = |problem: String| Stop::usage(anyhow!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let file: ServersFile = toml::from_str(&text).map_err(|error| {
            // The message leaves out the text of the line, which may contain a password.
            let before = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text[..before].matches('\n').count() + 1;
            refuse(format!("line {line}: {}", error.message()))
        })?;
        let named = |table: toml::Table, what: &str| {
            let servers = table.into_iter().map(|(name, value)| match value {
                toml::Value::String(conninfo) => Ok((Some(name), conninfo)),
                _ => Err(refuse(format!(
                    "`{name}` in [{what}] is no connection string"
                ))),
            });
            servers.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            primary: file.primary,
            standbys: named(file.standby, "standby")?,
            subscribers: named(file.subscriber, "subscriber")?,
            publisher: file.publisher,
        })
    }
}

fn read_all(written: Vec<(Option<String>, String)>) -> Result<Vec<NamedServer>, Stop> {
    let server = |(name, conninfo): (_, String)| {
        let parameters = read(&conninfo)?;
        Ok(NamedServer { name, parameters })
    };
    written.into_iter().map(server).collect()
}

/// Splits `NAME=CONNINFO`. The text before the first `=` is a name unless libpq has a keyword of that name.
pub(super) fn named(text: &str) -> (Option<String>, String) {
    match text.split_once('=') {
        Some((name, rest)) if !conninfo::is_keyword(name.trim()) && !name.contains("://") => {
            (Some(name.to_owned()), rest.to_owned())
        }
        _ => (None, text.to_owned()),
    }
}

/// Reads a connection string and completes it from the environment, such as PGHOST and ~/.pgpass.
pub(super) fn read(text: &str) -> Result<Parameters, Stop> {
    let parsed = text.parse::<Conninfo>();
    let completed = parsed.and_then(|it| it.complete(&OwnSurroundings));
    let parameters = completed.or_exit(Exit::Usage)?;
    for warning in &parameters.warnings {
        note(warning);
    }
    Ok(parameters)
}

/// Surveys the servers before there is a plan, and enters the result in `overrides`. Returns the servers with the standbys that the user
/// adds.
fn survey(mut servers: Servers, overrides: &mut Overrides) -> Result<Servers, Stop> {
    let mut survey = look(&servers)?;
    let added: Vec<_> = survey
        .others
        .iter()
        .filter_map(|it| ask_for(it, &servers))
        .collect();
    if !added.is_empty() {
        servers.standbys.extend(added);
        survey = look(&servers)?;
    }
    overrides.given = Some(Given::Existing(survey.found));
    // Times that a standby pushes are read from its own clock, and can be used only if that is this machine's clock.
    if !survey.are_local {
        if overrides.visibility == Some(VisibilityMethod::Push) {
            return Err(Stop::usage(anyhow!(
                "--visibility push needs standbys on this machine, because it reads their clocks; use looks"
            )));
        }
        overrides.visibility = Some(VisibilityMethod::Looks);
    }
    Ok(servers)
}

fn look(servers: &Servers) -> Result<Survey, Stop> {
    interruptible(async |_| existing::survey(servers).await.map_err(ClusterError::from))
}

/// Asks a user at a terminal whether to measure a standby that was found but not named. The standby is assumed to listen on the primary's
/// port; on the primary's host that is impossible, so there the standby is only mentioned.
fn ask_for(other: &Receiver, servers: &Servers) -> Option<NamedServer> {
    let (primary, password) = servers.primary.hosts.first()?;
    let is_elsewhere = |it: &&str| !it.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    let address = other.address.as_deref().filter(is_elsewhere);
    let place = address.map_or("on the primary's host".to_owned(), |it| {
        format!("at {it}:{}", primary.port)
    });
    note(&format!(
        "standby {} {place} streams from the primary and is not named",
        other.name
    ));
    let address = address.filter(|_| io::stdin().is_terminal() && io::stderr().is_terminal())?;
    io::stderr().write_all(b"measure it too? [y/N] ").ok()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    let host = Host {
        name: address.to_owned(),
        address: None,
        port: primary.port,
    };
    answer
        .trim()
        .eq_ignore_ascii_case("y")
        .then(|| NamedServer {
            name: Some(other.name.clone()),
            parameters: Parameters {
                hosts: vec![(host, password.clone())],
                ..servers.primary.clone()
            },
        })
}

/// The arguments of this process in a form that may be recorded, with connection strings without passwords.
pub(super) fn without_passwords(argv: &[String]) -> Vec<String> {
    let mut is_conninfo = false;
    let hide = |text: &str| {
        let (name, text) = named(text);
        let shown = text
            .parse::<Conninfo>()
            .map_or_else(|_| "...".into(), |it| it.to_string());
        name.map_or_else(|| shown.clone(), |name| format!("{name}={shown}"))
    };
    let shown = argv.iter().map(|argument| {
        let hides = std::mem::replace(&mut is_conninfo, false);
        if hides {
            return hide(argument);
        }
        for option in ["--primary", "--standby", "--subscriber", "--publisher"] {
            if argument == option {
                is_conninfo = true;
            } else if let Some(text) = argument
                .strip_prefix(option)
                .and_then(|it| it.strip_prefix('='))
            {
                return format!("{option}={}", hide(text));
            }
        }
        argument.clone()
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::{named, without_passwords};

    #[test]
    fn recorded_arguments_have_no_password() {
        let argv = [
            "run",
            "--primary",
            "postgresql://u:canary@h/db",
            "--standby=s1=host=a password=canary",
            "--standby",
            "password='can ary",
        ];
        let shown = without_passwords(&argv.map(String::from));
        assert_eq!(
            shown,
            [
                "run",
                "--primary",
                "dbname=db host=h user=u",
                "--standby=s1=host=a",
                "--standby",
                "..."
            ]
        );
    }

    #[test]
    fn a_name_is_told_from_a_keyword() {
        for (text, name, conninfo) in [
            ("s1=host=a port=5", Some("s1"), "host=a port=5"),
            ("host=a port=5", None, "host=a port=5"),
            (
                "s1=postgresql://a/b?x=1",
                Some("s1"),
                "postgresql://a/b?x=1",
            ),
            ("postgresql://a/b?x=1", None, "postgresql://a/b?x=1"),
            ("service=x", None, "service=x"),
        ] {
            assert_eq!(named(text), (name.map(Into::into), conninfo.to_owned()));
        }
    }
}
