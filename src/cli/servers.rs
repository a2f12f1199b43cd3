//! The arguments that name servers which exist.

use clap::Args;

use super::signals::interruptible;
use super::{Exit, Stop, say};
use crate::cluster::existing;
use crate::cluster::{ClusterError, NamedServer, Servers};
use crate::pg::conninfo::{self, Conninfo, ConninfoError, OwnSurroundings, Parameters};
use crate::plan::{OWN_SCHEMA, Overrides, VisibilityMethod};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Servers that exist, instead of a cluster made for the run")]
pub(super) struct ServerArgs {
    /// The primary, as libpq takes it: `key=value ...` or a URI; PGHOST, PGPASSWORD, PGSERVICE, ~/.pgpass and the like count
    #[arg(long, value_name = "CONNINFO")]
    primary: Option<String>,

    /// A standby of it; may be given several times. Its name is the one under which it replicates
    #[arg(long, value_name = "[NAME=]CONNINFO", requires = "primary")]
    standby: Vec<String>,

    /// Load servers that are not on this machine: they are yours, and the load may hurt whoever uses them
    #[arg(long, requires = "primary")]
    i_own_this: bool,
}

impl ServerArgs {
    /// `None`: a cluster is to be made.
    pub(super) fn servers(&self) -> Result<Option<Servers>, Stop> {
        let Some(primary) = &self.primary else {
            return Ok(None);
        };
        let standbys = self.standby.iter().map(|text| {
            let (name, text) = named(text);
            Ok(NamedServer {
                name: name.map(Into::into),
                parameters: read(text)?,
            })
        });
        Ok(Some(Servers {
            primary: read(primary)?,
            standbys: standbys.collect::<Result<_, Stop>>()?,
            may_load: self.i_own_this,
            schema: OWN_SCHEMA.into(),
        }))
    }
}

/// `NAME=CONNINFO`: what stands before the first `=` is a name where libpq has no such keyword.
fn named(text: &str) -> (Option<&str>, &str) {
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
pub(super) fn survey(servers: &Servers, overrides: &mut Overrides) -> Result<(), Stop> {
    let surveyed = interruptible(async |_| existing::survey(servers).await)?;
    let (found, are_local) = surveyed.map_err(|error| {
        let error = ClusterError::from(error);
        Stop::new(super::cluster::exit_of(&error), error)
    })?;
    overrides.found = Some(found);
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
        for option in ["--primary", "--standby"] {
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
