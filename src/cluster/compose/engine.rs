//! The command lines `docker` and `docker compose`, each call with a deadline.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use super::ComposeError;
use crate::cluster::process;
use serde::Deserialize;

/// For calls that start or end nothing.
const QUESTION: Duration = Duration::from_secs(30);
/// For calls that end containers.
const REMOVAL: Duration = Duration::from_mins(2);
/// How much of what a failed call said is shown.
const MOST_LINES: usize = 12;

/// The label with the name of the project: what bears it was made by replbench.
pub(super) const PROJECT: &str = "replbench.project";
/// The label with the process that made it.
pub(super) const OWNER: &str = "replbench.owner";

/// Docker, and which of the two composes there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine {
    compose: &'static [&'static str],
}

/// What the engine says of a container.
#[derive(Debug, Deserialize)]
pub(super) struct Container {
    #[serde(rename = "Id")]
    pub(super) id: String,
    #[serde(rename = "Name")]
    pub(super) name: String,
    #[serde(rename = "State")]
    pub(super) state: State,
    #[serde(rename = "Config")]
    config: ContainerConfig,
    #[serde(rename = "NetworkSettings")]
    network: Network,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct State {
    #[serde(rename = "Running")]
    pub(super) running: bool,
    #[serde(rename = "Paused", default)]
    pub(super) paused: bool,
    #[serde(rename = "ExitCode")]
    pub(super) exit_code: i64,
}

#[derive(Debug, Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Env", default)]
    environment: Option<Vec<String>>,
    #[serde(rename = "Labels", default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(rename = "Ports", default)]
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    #[serde(rename = "Networks", default)]
    networks: Option<BTreeMap<String, Attachment>>,
}

/// How a container is on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Attachment {
    /// By these names others on the network find it.
    #[serde(rename = "Aliases", default)]
    aliases: Option<Vec<String>>,
    /// What the file asks for; none: the engine chooses.
    #[serde(rename = "IPAMConfig", default)]
    addresses: Option<Addresses>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Addresses {
    #[serde(rename = "IPv4Address", default)]
    v4: String,
    #[serde(rename = "IPv6Address", default)]
    v6: String,
}

impl Attachment {
    /// The options of `docker network connect` that make it again.
    fn options(&self) -> Vec<&str> {
        let aliases = self.aliases.iter().flatten();
        let aliases = aliases.map(|name| ("--alias", name.as_str()));
        let own = self.addresses.iter();
        let addresses = own.flat_map(|it| [("--ip", it.v4.as_str()), ("--ip6", it.v6.as_str())]);
        let given = aliases
            .chain(addresses)
            .filter(|(_, value)| !value.is_empty());
        given.flat_map(|(option, value)| [option, value]).collect()
    }
}

#[derive(Debug, Deserialize)]
struct Binding {
    #[serde(rename = "HostIp")]
    address: String,
    #[serde(rename = "HostPort")]
    port: String,
}

impl Container {
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.config.labels.clone().unwrap_or_default()
    }

    pub(super) fn service(&self) -> &str {
        let labels = self.config.labels.as_ref();
        let service = labels.and_then(|it| it.get("com.docker.compose.service"));
        service.map_or("", String::as_str)
    }

    /// The networks that it is on, by their names.
    pub(super) fn networks(&self) -> BTreeMap<String, Attachment> {
        self.network.networks.clone().unwrap_or_default()
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let all = self.config.environment.iter().flatten();
        let mut pairs = all.filter_map(|pair| pair.split_once('='));
        pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Address and port on this machine that lead to PostgreSQL's in the container.
    pub(super) fn published(&self) -> Option<(String, &str)> {
        let bindings = self.network.ports.as_ref()?.get("5432/tcp")?.as_ref()?;
        // An engine that listens on both families says so in two lines.
        let is_v6 = |binding: &&Binding| binding.address.contains(':');
        let binding = bindings.iter().find(|it| !is_v6(it)).or(bindings.first())?;
        let address = match binding.address.as_str() {
            "" | "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            own => own,
        };
        Some((address.to_owned(), &binding.port))
    }
}

impl Engine {
    /// Looks for Docker and asks the engine whether it is there.
    pub(super) async fn find() -> Result<Self, ComposeError> {
        let arguments = ["version", "--format", "{{.Server.Version}}"];
        match process::answer("docker", arguments, QUESTION).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ComposeError::NoDocker);
            }
            Err(error) => return Err(ComposeError::NoEngine(error.to_string())),
            Ok(output) if !output.status.success() => {
                return Err(ComposeError::NoEngine(last_lines(&output.stderr)));
            }
            Ok(_) => {}
        }
        let known: [&'static [&'static str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        for compose in known {
            let arguments = compose[1..].iter().copied().chain(["version"]);
            let asked = process::answer(compose[0], arguments, QUESTION).await;
            if asked.is_ok_and(|output| output.status.success()) {
                return Ok(Self { compose });
            }
        }
        Err(ComposeError::NoCompose)
    }

    /// Runs compose on the file of a project; what it prints.
    pub(super) async fn compose(
        self,
        project: &str,
        file: &Path,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<String, ComposeError> {
        let own = self.compose[1..].iter().map(OsString::from);
        let of_project = ["-p".into(), project.into(), "-f".into(), file.into()];
        let all = own
            .chain(of_project)
            .chain(arguments.iter().map(OsString::from));
        call(self.compose[0], all.collect(), deadline).await
    }

    /// The containers of a project, also those that have ended.
    pub(super) async fn containers(self, project: &str) -> Result<Vec<Container>, ComposeError> {
        let ids = labelled("container", &format!("{PROJECT}={project}")).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let arguments = ["inspect", "--type", "container"];
        let arguments = arguments.into_iter().chain(ids.iter().map(String::as_str));
        let text = docker(arguments, QUESTION).await?;
        serde_json::from_str(&text).map_err(|error| ComposeError::Command {
            command: "docker inspect".into(),
            outcome: format!("answered something else than expected: {error}"),
        })
    }

    /// The end of what a container has written.
    pub(super) async fn log(self, id: &str) -> String {
        let lines = MOST_LINES.to_string();
        let arguments = ["logs", "--tail", &lines, id];
        // Without it there is still the error that it would explain.
        let output = process::answer("docker", arguments, QUESTION).await;
        output.map_or_else(
            |_| String::new(),
            |output| last_lines(&[output.stdout, output.stderr].concat()),
        )
    }

    pub(super) async fn kill(self, id: &str) -> Result<(), ComposeError> {
        docker(["kill", id], QUESTION).await.map(drop)
    }

    /// Asks a container to end by its stop signal; one that has not within `grace` is killed.
    pub(super) async fn stop(self, id: &str, grace: Duration) -> Result<(), ComposeError> {
        let seconds = grace.as_secs().to_string();
        let arguments = ["stop", "--time", &seconds, id];
        docker(arguments, grace + QUESTION).await.map(drop)
    }

    pub(super) async fn start(self, id: &str) -> Result<(), ComposeError> {
        docker(["start", id], QUESTION).await.map(drop)
    }

    /// Stops all processes of a container, until [`Engine::unpause`].
    pub(super) async fn pause(self, id: &str) -> Result<(), ComposeError> {
        docker(["pause", id], QUESTION).await.map(drop)
    }

    pub(super) async fn unpause(self, id: &str) -> Result<(), ComposeError> {
        docker(["unpause", id], QUESTION).await.map(drop)
    }

    /// Takes a container off a network; its connections there are not told.
    pub(super) async fn disconnect(self, network: &str, id: &str) -> Result<(), ComposeError> {
        let arguments = ["network", "disconnect", network, id];
        docker(arguments, QUESTION).await.map(drop)
    }

    /// Puts a container back on a network, as it was on it.
    pub(super) async fn connect(
        self,
        network: &str,
        attachment: &Attachment,
        id: &str,
    ) -> Result<(), ComposeError> {
        let own = attachment.options();
        let arguments = ["network", "connect"].into_iter().chain(own);
        let arguments = arguments.chain([network, id]);
        docker(arguments, QUESTION).await.map(drop)
    }

    /// Removes all that bears the project's label: containers with their volumes, networks, volumes. How many containers.
    pub(super) async fn remove(self, project: &str) -> Result<usize, ComposeError> {
        let label = format!("{PROJECT}={project}");
        // Not every engine ends a container that is paused.
        for id in paused(&label).await? {
            self.unpause(&id).await?;
        }
        let mut containers = 0;
        for (kind, remove) in [
            ("container", &["rm", "--force", "--volumes"][..]),
            ("network", &["network", "rm"]),
            ("volume", &["volume", "rm", "--force"]),
        ] {
            let ids = labelled(kind, &label).await?;
            if kind == "container" {
                containers = ids.len();
            }
            if !ids.is_empty() {
                let arguments = remove.iter().copied();
                docker(arguments.chain(ids.iter().map(String::as_str)), REMOVAL).await?;
            }
        }
        Ok(containers)
    }

    /// The projects of replbench's there are, each with the text of its owner.
    pub(super) async fn projects(self) -> Result<BTreeMap<String, String>, ComposeError> {
        let mut found = BTreeMap::new();
        for kind in ["container", "network", "volume"] {
            let format = format!("{{{{.Label \"{PROJECT}\"}}}}\t{{{{.Label \"{OWNER}\"}}}}");
            let filter = format!("label={PROJECT}");
            let arguments = listing(kind).iter().copied();
            let arguments = arguments.chain(["--filter", &filter, "--format", &format]);
            let text = docker(arguments, QUESTION).await?;
            let pairs = text.lines().filter_map(|line| line.split_once('\t'));
            found.extend(pairs.map(|(project, owner)| (project.to_owned(), owner.to_owned())));
        }
        Ok(found)
    }
}

fn listing(kind: &str) -> &'static [&'static str] {
    match kind {
        "container" => &["container", "ls", "--all", "--no-trunc"],
        "network" => &["network", "ls", "--no-trunc"],
        _ => &["volume", "ls"],
    }
}

/// The ids of what bears a label.
async fn labelled(kind: &str, label: &str) -> Result<Vec<String>, ComposeError> {
    let filter = format!("label={label}");
    let arguments = listing(kind).iter().copied();
    let arguments = arguments.chain(["--quiet", "--filter", &filter]);
    let text = docker(arguments, QUESTION).await?;
    Ok(text.split_whitespace().map(Into::into).collect())
}

/// The ids of the containers with a label that are paused.
async fn paused(label: &str) -> Result<Vec<String>, ComposeError> {
    let label = format!("label={label}");
    let arguments = listing("container").iter().copied();
    let filters = ["--quiet", "--filter", &label, "--filter", "status=paused"];
    let text = docker(arguments.chain(filters), QUESTION).await?;
    Ok(text.split_whitespace().map(Into::into).collect())
}

async fn docker(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    deadline: Duration,
) -> Result<String, ComposeError> {
    let arguments = arguments.into_iter().map(|it| it.as_ref().to_owned());
    call("docker", arguments.collect(), deadline).await
}

async fn call(
    program: &str,
    arguments: Vec<OsString>,
    deadline: Duration,
) -> Result<String, ComposeError> {
    let shown = arguments.iter().map(|it| it.to_string_lossy());
    let command = [program.into()]
        .into_iter()
        .chain(shown)
        .collect::<Vec<_>>()
        .join(" ");
    match process::answer(program, arguments, deadline).await {
        Err(error) => Err(ComposeError::Command {
            command,
            outcome: error.to_string(),
        }),
        Ok(output) if !output.status.success() => Err(ComposeError::Command {
            command,
            outcome: format!(
                "{}:\n{}",
                process::ended(output.status),
                last_lines(&output.stderr)
            ),
        }),
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(MOST_LINES)..];
    last.iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::Attachment;

    #[test]
    fn a_container_comes_back_on_a_network_under_its_names_and_at_the_address_that_was_asked_for() {
        for (said, options) in [
            (
                r#"{"IPAMConfig": null, "Aliases": ["s1", "e8279eff208f"], "IPAddress": "172.20.0.2"}"#,
                vec!["--alias", "s1", "--alias", "e8279eff208f"],
            ),
            (
                r#"{"IPAMConfig": {"IPv4Address": "10.1.0.7"}, "Aliases": null}"#,
                vec!["--ip", "10.1.0.7"],
            ),
            (r#"{"IPAMConfig": {}, "Links": null}"#, vec![]),
        ] {
            let attachment: Attachment = serde_json::from_str(said).unwrap();
            assert_eq!(attachment.options(), options);
        }
    }
}
