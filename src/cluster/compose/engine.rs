//! Calls of `docker` and `docker compose`, each with a deadline.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use itertools::Itertools as _;
use serde::Deserialize;

use super::ComposeError;
use crate::cluster::process;

/// The time-out of most calls. Calls that remove containers have [`REMOVAL`].
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// The time-out of calls that remove containers, networks or volumes.
const REMOVAL: Duration = Duration::from_mins(2);
/// The most lines that are shown of a failed call's messages or of a container's log.
const MOST_LINES: usize = 12;

/// The label with the name of the project. Everything with this label was made by replbench.
pub(super) const PROJECT: &str = "replbench.project";
/// The label with the process that started the project.
pub(super) const OWNER: &str = "replbench.owner";

/// The Docker engine, with the compose command that is installed: `docker compose` or `docker-compose`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine {
    compose: &'static [&'static str],
}

/// A container as `docker inspect` describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: State,
    config: ContainerConfig,
    network_settings: NetworkSettings,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    pub(super) running: bool,
    #[serde(default)]
    pub(super) paused: bool,
    pub(super) exit_code: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    env: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<String, Attachment>>,
}

/// How a container is attached to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attachment {
    /// Names by which other containers on the network reach this one.
    aliases: Option<Vec<String>>,
    /// Addresses that the compose file asks for; `None` if the engine chooses.
    #[serde(rename = "IPAMConfig")]
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
    /// The options of `docker network connect` that restore the attachment.
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
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: String,
    host_port: String,
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

    /// The networks that the container is on, by their names.
    pub(super) fn networks(&self) -> BTreeMap<String, Attachment> {
        self.network_settings.networks.clone().unwrap_or_default()
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let all = self.config.env.iter().flatten();
        let mut pairs = all.filter_map(|pair| pair.split_once('='));
        pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The address and port on this machine that are forwarded to PostgreSQL's port in the container; `None` if no port is published.
    pub(super) fn published(&self) -> Option<(String, &str)> {
        let ports = self.network_settings.ports.as_ref()?;
        let bindings = ports.get("5432/tcp")?.as_ref()?;
        // An engine that listens on IPv4 and IPv6 has a binding for each.
        let is_v6 = |binding: &&Binding| binding.host_ip.contains(':');
        let binding = bindings.iter().find(|it| !is_v6(it)).or(bindings.first())?;
        let address = match binding.host_ip.as_str() {
            "" | "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            own => own,
        };
        Some((address.to_owned(), &binding.host_port))
    }
}

impl Engine {
    /// Looks for Docker and compose, and checks that the engine answers.
    pub(super) async fn find() -> Result<Self, ComposeError> {
        let arguments = ["version", "--format", "{{.Server.Version}}"];
        match process::answer("docker", arguments, CALL_DEADLINE).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ComposeError::NoDocker);
            }
            Err(error) => return Err(ComposeError::NoEngine(error.to_string())),
            Ok(output) if !output.status.success() => {
                return Err(ComposeError::NoEngine(last_lines(&output.stderr)));
            }
            Ok(_) => {}
        }
        let known: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        for compose in known {
            let arguments = [&compose[1..], &["version"]].concat();
            let asked = process::answer(compose[0], arguments, CALL_DEADLINE).await;
            if asked.is_ok_and(|output| output.status.success()) {
                return Ok(Self { compose });
            }
        }
        Err(ComposeError::NoCompose)
    }

    /// Runs compose on the file of a project, and returns its output.
    pub(super) async fn compose(
        self,
        project: &str,
        file: &Path,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<String, ComposeError> {
        let before = [&self.compose[1..], &["-p", project, "-f"]].concat();
        let before = before.into_iter().map(OsStr::new);
        let after = arguments.iter().map(OsStr::new);
        let all: Vec<_> = before.chain([file.as_os_str()]).chain(after).collect();
        call(self.compose[0], &all, deadline).await
    }

    /// The containers of a project, including those that have ended.
    pub(super) async fn containers(self, project: &str) -> Result<Vec<Container>, ComposeError> {
        let found = CONTAINERS.labelled(project, &[]).await?;
        let ids: Vec<_> = found.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let inspect = ["inspect", "--type", "container"];
        let text = docker(&[&inspect, &ids[..]].concat(), CALL_DEADLINE).await?;
        serde_json::from_str(&text).map_err(|error| ComposeError::Command {
            command: "docker inspect".into(),
            outcome: format!("answered something else than expected: {error}"),
        })
    }

    /// The last lines of a container's log; empty if the log cannot be read.
    pub(super) async fn log(self, id: &str) -> String {
        let lines = MOST_LINES.to_string();
        let arguments = ["logs", "--tail", &lines, id];
        // The log only explains another error, so a failure to read it is not reported.
        let output = process::answer("docker", arguments, CALL_DEADLINE).await;
        output.map_or_else(
            |_| String::new(),
            |output| last_lines(&[output.stdout, output.stderr].concat()),
        )
    }

    /// Runs `docker kill`, `start`, `pause` or `unpause` on a container.
    pub(super) async fn order(self, action: &str, id: &str) -> Result<(), ComposeError> {
        docker(&[action, id], CALL_DEADLINE).await.map(drop)
    }

    /// Ends a container by its stop signal. The engine kills a container that has not ended within `grace`.
    pub(super) async fn stop(self, id: &str, grace: Duration) -> Result<(), ComposeError> {
        let seconds = grace.as_secs().to_string();
        let arguments = ["stop", "--time", &seconds, id];
        docker(&arguments, grace + CALL_DEADLINE).await.map(drop)
    }

    /// Detaches a container from a network. Its connections there stay open, and neither side is notified.
    pub(super) async fn disconnect(self, network: &str, id: &str) -> Result<(), ComposeError> {
        let arguments = ["network", "disconnect", network, id];
        docker(&arguments, CALL_DEADLINE).await.map(drop)
    }

    /// Attaches a container to a network again, as it was attached before.
    pub(super) async fn connect(
        self,
        network: &str,
        attachment: &Attachment,
        id: &str,
    ) -> Result<(), ComposeError> {
        let options = attachment.options();
        let arguments = [&["network", "connect"], &options[..], &[network, id]];
        docker(&arguments.concat(), CALL_DEADLINE).await.map(drop)
    }

    /// Removes everything with the project's label: containers with their volumes, networks, volumes. Returns the number of containers.
    pub(super) async fn remove(self, project: &str) -> Result<usize, ComposeError> {
        // Some engines cannot remove a paused container.
        let paused = ["--filter", "status=paused"];
        for id in CONTAINERS
            .labelled(project, &paused)
            .await?
            .split_whitespace()
        {
            self.order("unpause", id).await?;
        }
        let mut containers = 0;
        for kind in [CONTAINERS, NETWORKS, VOLUMES] {
            let found = kind.labelled(project, &[]).await?;
            let ids: Vec<_> = found.split_whitespace().collect();
            if kind == CONTAINERS {
                containers = ids.len();
            }
            if !ids.is_empty() {
                docker(&[kind.remove, &ids].concat(), REMOVAL).await?;
            }
        }
        Ok(containers)
    }

    /// All projects of replbench, each with the value of its owner label.
    pub(super) async fn projects(self) -> Result<BTreeMap<String, String>, ComposeError> {
        let format = format!("{{{{.Label \"{PROJECT}\"}}}}\t{{{{.Label \"{OWNER}\"}}}}");
        let filter = format!("label={PROJECT}");
        let mut found = BTreeMap::new();
        for kind in [CONTAINERS, NETWORKS, VOLUMES] {
            let options = ["--filter", &filter, "--format", &format];
            let text = docker(&[kind.list, &options].concat(), CALL_DEADLINE).await?;
            let pairs = text.lines().filter_map(|line| line.split_once('\t'));
            found.extend(pairs.map(|(project, owner)| (project.to_owned(), owner.to_owned())));
        }
        Ok(found)
    }
}

/// A kind of object that compose creates, with the commands that list and remove it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    list: &'static [&'static str],
    remove: &'static [&'static str],
}

const CONTAINERS: Kind = Kind {
    list: &["container", "ls", "--all", "--no-trunc"],
    remove: &["rm", "--force", "--volumes"],
};
const NETWORKS: Kind = Kind {
    list: &["network", "ls", "--no-trunc"],
    remove: &["network", "rm"],
};
const VOLUMES: Kind = Kind {
    list: &["volume", "ls"],
    remove: &["volume", "rm", "--force"],
};

impl Kind {
    /// The ids of all objects of this kind with the label of a project, separated by whitespace.
    async fn labelled(self, project: &str, more: &[&str]) -> Result<String, ComposeError> {
        let filter = format!("label={PROJECT}={project}");
        let options = ["--quiet", "--filter", &filter];
        docker(&[self.list, &options, more].concat(), CALL_DEADLINE).await
    }
}

async fn docker(arguments: &[&str], deadline: Duration) -> Result<String, ComposeError> {
    call("docker", arguments, deadline).await
}

async fn call(
    program: &str,
    arguments: &[impl AsRef<OsStr>],
    deadline: Duration,
) -> Result<String, ComposeError> {
    let failed = |outcome| {
        let shown = arguments.iter().map(|it| it.as_ref().to_string_lossy());
        ComposeError::Command {
            command: format!("{program} {}", shown.format(" ")),
            outcome,
        }
    };
    let output = process::answer(program, arguments, deadline).await;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let (ended, said) = (process::ended(output.status), last_lines(&output.stderr));
    Err(failed(format!("{ended}:\n{said}")))
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(MOST_LINES)..];
    last.iter().map(|line| format!("    {line}")).join("\n")
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
