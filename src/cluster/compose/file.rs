//! What a compose file says about its nodes, and the labels that replbench adds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ComposeError;
use crate::topology::{Role, Topology};

/// The label with the role of a service. A service without this label is not measured.
const ROLE: &str = "replbench.role";
/// The label with the name under which a node replicates, if that is not the service's name.
const NAME: &str = "replbench.name";

/// A compose file as compose prints it, with variables filled in.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(skip)]
    whole: Value,
    services: BTreeMap<String, Service>,
    networks: Option<BTreeMap<String, Option<Resource>>>,
    volumes: Option<BTreeMap<String, Option<Resource>>>,
}

#[derive(Debug, Deserialize)]
struct Service {
    labels: Option<Entries<String>>,
    depends_on: Option<Entries<Dependency>>,
    networks: Option<Entries<Value>>,
    network_mode: Option<String>,
}

/// Entries that compose accepts in two forms: as a map, or as a list of keys. A list of labels consists of `name=value`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entries<T> {
    Map(BTreeMap<String, T>),
    List(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Dependency {
    #[serde(default)]
    condition: String,
}

impl Service {
    fn labels(&self) -> BTreeMap<String, String> {
        match &self.labels {
            None => BTreeMap::new(),
            Some(Entries::Map(labels)) => labels.clone(),
            Some(Entries::List(labels)) => {
                let pairs = labels
                    .iter()
                    .map(|it| it.split_once('=').unwrap_or((it, "")));
                pairs
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            }
        }
    }

    fn waits_for_health(&self) -> bool {
        let Some(Entries::Map(services)) = &self.depends_on else {
            return false;
        };
        let mut conditions = services.values().map(|it| it.condition.as_str());
        conditions.any(|it| it == "service_healthy")
    }
}

/// A network or a volume.
#[derive(Debug, Deserialize)]
struct Resource {
    /// `true`, or a map with the resource's name, if the resource is not made from this file.
    external: Option<Value>,
    /// For a network: whether nothing outside Docker reaches the network, so that no published port goes through it.
    #[serde(default)]
    internal: bool,
}

impl Resource {
    fn is_own(this: Option<&Self>) -> bool {
        let external = this.and_then(|it| it.external.as_ref());
        external.is_none_or(|it| *it == Value::Bool(false))
    }
}

/// The nodes of a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrangement {
    pub(super) topology: Topology,
    /// The nodes' services, by the node's name.
    pub(super) services: BTreeMap<String, String>,
}

impl Arrangement {
    /// Derives the nodes from the labels of services. `file` names the source of the labels in errors.
    pub(super) fn of<'a>(
        services: impl Iterator<Item = (&'a str, BTreeMap<String, String>)>,
        file: &Path,
    ) -> Result<Self, ComposeError> {
        let refuse = |problem: String, remedy: &str| ComposeError::File {
            file: file.to_owned(),
            problem,
            remedy: remedy.to_owned(),
        };
        let mut found: Vec<(Role, String, String)> = Vec::new();
        for (service, labels) in services {
            let Some(written) = labels.get(ROLE) else {
                continue;
            };
            let Some((_, role)) = ROLES.iter().find(|(word, _)| word == written) else {
                let words: Vec<_> = ROLES.iter().map(|(word, _)| *word).collect();
                return Err(refuse(
                    format!("labels service `{service}` with {ROLE} = `{written}`"),
                    &format!("it is one of {}", words.join(", ")),
                ));
            };
            let name = match role {
                Role::Primary => Topology::PRIMARY,
                _ => labels.get(NAME).map_or(service, String::as_str),
            };
            if found.iter().any(|(_, other, _)| other == name) {
                return Err(refuse(
                    format!("has two nodes of the name `{name}`"),
                    "label one primary, and give each replica another name with replbench.name",
                ));
            }
            found.push((*role, name.to_owned(), service.to_owned()));
        }
        if !found.iter().any(|(role, ..)| *role == Role::Primary) {
            return Err(refuse(
                format!("labels no service with {ROLE} = primary"),
                "label the services that are to be measured: see README, \"Compose clusters\"",
            ));
        }
        // Sorted by role, as everywhere, and then by name.
        found.sort();
        let replicas = found.iter().filter(|(role, ..)| *role != Role::Primary);
        let replicas = replicas.map(|(role, name, _)| (name.clone(), *role));
        Ok(Self {
            topology: Topology::of_replicas(replicas),
            services: found
                .iter()
                .map(|it| (it.1.clone(), it.2.clone()))
                .collect(),
        })
    }
}

impl Config {
    pub(super) fn read(file: &Path, text: &str) -> Result<Self, ComposeError> {
        let read = || -> Result<Self, serde_saphyr::Error> {
            Ok(Self {
                whole: serde_saphyr::from_str(text)?,
                ..serde_saphyr::from_str(text)?
            })
        };
        read().map_err(|error| ComposeError::File {
            file: file.to_owned(),
            problem: format!("is not understood after compose has read it: {error}"),
            remedy: "see `docker compose config`".into(),
        })
    }

    /// The nodes that the labels describe.
    pub(super) fn arrangement(&self, file: &Path) -> Result<Arrangement, ComposeError> {
        let services = self.services.iter();
        Arrangement::of(
            services.map(|(name, its)| (name.as_str(), its.labels())),
            file,
        )
    }

    /// The names of the networks that a service is on, as the file has them.
    pub(super) fn networks(&self, service: &str) -> BTreeSet<&str> {
        let Some(service) = self.services.get(service) else {
            return BTreeSet::new();
        };
        match (&service.networks, &service.network_mode) {
            (Some(Entries::Map(names)), _) => names.keys().map(String::as_str).collect(),
            (Some(Entries::List(names)), _) => names.iter().map(String::as_str).collect(),
            (None, Some(_)) => BTreeSet::new(),
            (None, None) => BTreeSet::from(["default"]),
        }
    }

    /// Whether the file declares a network as internal, so that nothing outside Docker reaches it.
    pub(super) fn is_internal(&self, network: &str) -> bool {
        let all = self.networks.as_ref();
        let found = all.and_then(|it| it.get(network)?.as_ref());
        found.is_some_and(|it| it.internal)
    }

    /// The file with `labels` on everything that compose makes from it. Health checks are removed, because they would cost processor time
    /// during a measurement, unless a service waits for one.
    pub(super) fn labelled(&self, labels: &BTreeMap<&str, String>) -> Value {
        let waits_for_health = self.services.values().any(Service::waits_for_health);
        let mut whole = self.whole.clone();
        for name in self.services.keys() {
            let service = &mut whole["services"][name];
            label(service, labels);
            if !waits_for_health {
                service["healthcheck"] = json!({ "test": ["NONE"] });
            }
        }
        let mut services = self.services.values();
        if services.any(|it| it.networks.is_none() && it.network_mode.is_none()) {
            label(&mut whole["networks"]["default"], labels);
        }
        for (kind, resources) in [("networks", &self.networks), ("volumes", &self.volumes)] {
            for (name, resource) in resources.iter().flatten() {
                if Resource::is_own(resource.as_ref()) {
                    label(&mut whole[kind][name], labels);
                }
            }
        }
        whole
    }
}

/// Adds labels to a service, a network or a volume.
fn label(resource: &mut Value, labels: &BTreeMap<&str, String>) {
    match &mut resource["labels"] {
        Value::Array(list) => {
            let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
            list.extend(pairs.map(Value::from));
        }
        map => {
            for (name, value) in labels {
                map[*name] = value.as_str().into();
            }
        }
    }
}

/// The values of the label [`ROLE`].
const ROLES: [(&str, Role); 4] = [
    ("primary", Role::Primary),
    ("standby", Role::Standby),
    ("archive_standby", Role::ArchiveStandby),
    ("subscriber", Role::Subscriber),
];

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
services:
  db:
    image: postgres:17
    labels: {replbench.role: primary}
    depends_on: []
  replica:
    image: postgres:17
    labels: ["replbench.role=standby", "replbench.name=s1", "other"]
    networks: {back: null}
  reader:
    labels: {replbench.role: subscriber}
  app:
    image: app
networks:
  back: {internal: true}
  front: {external: true}
volumes:
  data: null
  theirs: {external: {name: x}}
"#;

    fn config(text: &str) -> Config {
        Config::read(Path::new("f.yaml"), text).unwrap()
    }

    #[test]
    fn labelled_services_are_nodes_and_others_are_not() {
        let found = config(FILE).arrangement(Path::new("f.yaml")).unwrap();
        let nodes: Vec<_> = found
            .topology
            .nodes()
            .iter()
            .map(|it| (it.name.as_str(), it.role))
            .collect();
        let expected = [
            ("primary", Role::Primary),
            ("s1", Role::Standby),
            ("reader", Role::Subscriber),
        ];
        assert_eq!(nodes, expected);
        assert_eq!(found.services["primary"], "db");
        assert_eq!(found.services["s1"], "replica");
    }

    #[test]
    fn labels_that_make_no_cluster_are_refused_by_what_is_wrong() {
        for (text, problem) in [
            ("services: {a: {image: x}}", "labels no service"),
            (
                "services: {a: {labels: {replbench.role: primry}}}",
                "`primry`",
            ),
            (
                "services: {a: {labels: {replbench.role: primary}}, b: {labels: {replbench.role: primary}}}",
                "two nodes",
            ),
        ] {
            let error = config(text).arrangement(Path::new("f.yaml")).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[test]
    fn everything_of_the_file_gets_the_labels_and_nothing_else_does() {
        let labels = BTreeMap::from([("replbench.project", "p".to_owned())]);
        let whole = config(FILE).labelled(&labels);
        let has = |path: &str| {
            let labels = whole.pointer(path).map(|it| it["labels"].to_string());
            labels.is_some_and(|it| it.contains("replbench.project"))
        };
        for own in [
            "/services/app",
            "/services/db",
            "/services/replica",
            "/networks/back",
            "/networks/default",
            "/volumes/data",
        ] {
            assert!(has(own), "{own}: {whole}");
        }
        for other in ["/networks/front", "/volumes/theirs"] {
            assert!(!has(other), "{other}: {whole}");
        }
        assert_eq!(whole["services"]["db"]["image"], "postgres:17");
        assert_eq!(
            whole["services"]["db"]["labels"]["replbench.role"],
            "primary"
        );
        assert_eq!(
            whole["services"]["app"]["healthcheck"],
            json!({ "test": ["NONE"] })
        );
    }

    #[test]
    fn health_checks_stay_where_a_service_waits_for_them() {
        let text = "services: {a: {healthcheck: {test: x}}, b: {depends_on: {a: {condition: service_healthy}}}}";
        let whole = config(text).labelled(&BTreeMap::new());
        assert_eq!(whole["services"]["a"]["healthcheck"]["test"], "x");
    }
}
