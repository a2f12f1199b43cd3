//! The arguments that name servers which exist.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;

use super::signals::interruptible;
use super::{Exit, Stop, say};
use crate::cluster::existing;
use crate::cluster::{ClusterError, ComposeFile, NamedServer, Servers};
use crate::mode::Given;
use crate::pg::conninfo::{self, Conninfo, ConninfoError, OwnSurroundings, Parameters};
use crate::plan::{OWN_SCHEMA, Overrides, VisibilityMethod};
use crate::run::GivenServers;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Servers that exist, instead of a cluster made for the run")]
pub(super) struct ServerArgs {
    /// The primary, as libpq takes it: `key=value ...` or a URI; PGHOST, PGPASSWORD, PGSERVICE, ~/.pgpass and the like count
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
    #[arg(long, requires = "primary")]
    set_sync: bool,

    /// Load servers that are not on this machine: they are yours, and the load may hurt whoever uses them
    #[arg(long, requires = "primary")]
    i_own_this: bool,

    /// A compose file whose services bear the label replbench.role: docker compose starts it for the run, and all of it is removed
    #[arg(long, value_name = "compose:FILE", conflicts_with = "primary")]
    cluster: Option<ComposePath>,
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
    /// The servers that are named, noted in what is to be planned. `None`: replbench makes its own.
    pub(super) fn given(&self, overrides: &mut Overrides) -> Result<Option<GivenServers>, Stop> {
        if let Some(ComposePath(path)) = &self.cluster {
            let file = interruptible(async |_| ComposeFile::read(path).await)?;
            let file = file.map_err(|error| refused(error.into()))?;
            overrides.given = Some(Given::Compose(file.topology().clone()));
            return Ok(Some(GivenServers::Compose(Arc::new(file))));
        }
        let Some(servers) = self.servers()? else {
            return Ok(None);
        };
        survey(&servers, overrides)?;
        Ok(Some(GivenServers::Existing(Arc::new(servers))))
    }

    fn servers(&self) -> Result<Option<Servers>, Stop> {
        let Some(primary) = &self.primary else {
            return Ok(None);
        };
        Ok(Some(Servers {
            primary: read(primary)?,
            standbys: named_servers(&self.standby)?,
            subscribers: named_servers(&self.subscriber)?,
            publisher: self.publisher.clone(),
            may_load: self.i_own_this,
            may_set: self.set_sync,
            schema: OWN_SCHEMA.into(),
        }))
    }
}

fn named_servers(arguments: &[String]) -> Result<Vec<NamedServer>, Stop> {
    let servers = arguments.iter().map(|text| {
        let (name, text) = named(text);
        Ok(NamedServer {
            name: name.map(Into::into),
            parameters: read(text)?,
        })
    });
    servers.collect()
}

/// `NAME=CONNINFO`: what stands before the first `=` is a name where libpq has no such keyword.
pub(super) fn named(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, rest)) if !conninfo::is_keyword(name.trim()) && !name.contains("://") => {
            (Some(name), rest)
        }
        _ => (None, text),
    }
}

/// A connection string, completed by what surrounds this process.
pub(super) fn read(text: &str) -> Result<Parameters, Stop> {
    let parsed = text.parse::<Conninfo>();
    let completed = parsed.and_then(|it| it.complete(&OwnSurroundings));
    let parameters = completed.map_err(|error: ConninfoError| Stop::new(Exit::Usage, error))?;
    for warning in &parameters.warnings {
        say(&format!("note: {warning}"));
    }
    Ok(parameters)
}

/// Looks at the servers before there is a plan, and notes what they have.
fn survey(servers: &Servers, overrides: &mut Overrides) -> Result<(), Stop> {
    let surveyed = interruptible(async |_| existing::survey(servers).await)?;
    let (found, are_local) = surveyed.map_err(|error| refused(error.into()))?;
    overrides.given = Some(Given::Existing(found));
    // What a standby pushes is dated by its own clock, which is this machine's or tells nothing here.
    match overrides.visibility {
        _ if are_local => {}
        None => overrides.visibility = Some(VisibilityMethod::Looks),
        Some(VisibilityMethod::Looks) => {}
        Some(VisibilityMethod::Push) => {
            let error = anyhow::anyhow!(
                "--visibility push needs standbys on this machine, because it reads their clocks; use looks"
            );
            return Err(Stop::new(Exit::Usage, error));
        }
    }
    Ok(())
}

fn refused(error: ClusterError) -> Stop {
    Stop::new(super::cluster::exit_of(&error), error)
}

/// The arguments of this process as they may be recorded: connection strings without passwords.
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
        assert_eq!(named("s1=host=a port=5"), (Some("s1"), "host=a port=5"));
        assert_eq!(named("host=a port=5"), (None, "host=a port=5"));
        assert_eq!(
            named("s1=postgresql://a/b?x=1"),
            (Some("s1"), "postgresql://a/b?x=1")
        );
        assert_eq!(
            named("postgresql://a/b?x=1"),
            (None, "postgresql://a/b?x=1")
        );
        assert_eq!(named("service=x"), (None, "service=x"));
    }
}
