//! Runs on clusters of compose files: each file that comes with replbench by compose alone and under `run`, what is refused, and
//! that nothing is left. The image is made from Debian's packages by `tests/docker/image`.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod docker;
mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use docker::{
    Compose, IMAGE, command, composes, file, left, nothing_is_left, ports, text, with_ports,
};
use replbench::cluster::process;
use replbench::pg::{Endpoint, Password};
use rustix::process::Signal;
use support::{Ended, Server, TestDir, signal, until};

const PATIENCE: Duration = Duration::from_mins(2);

fn replbench(dir: &Path, arguments: &[&str]) -> Ended {
    let output = command(dir, ports(), arguments).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        text: text(&output),
    }
}

fn server(port: u16) -> Server {
    let password = Some(Password::new("replbench"));
    let endpoint = Endpoint {
        user: "postgres".into(),
        database: "postgres".into(),
        ..Endpoint::on_loopback("node", port, "postgres", password)
    };
    Server { pid: 0, endpoint }
}

/// The one number that a query answers with.
fn try_number(server: &Server, query: &str) -> Result<i64, String> {
    let rows = server.try_sql(query)?;
    let number = rows.first().and_then(|row| row[0].as_ref());
    let number = number.and_then(|it| it.parse().ok());
    number.ok_or_else(|| format!("{rows:?}"))
}

const SHORT: &[&str] = &[
    "--rate",
    "100",
    "--duration",
    "2s",
    "--warmup",
    "0s",
    "--repeats",
    "1",
    "--connections",
    "4",
    "--results",
    "results",
];

fn run(dir: &Path, compose: &Path, modes: &str) -> Ended {
    let cluster = format!("compose:{}", compose.display());
    let arguments = [
        "run",
        "product-insert",
        "--cluster",
        &cluster,
        "--modes",
        modes,
    ];
    replbench(dir, &[&arguments, SHORT].concat())
}

/// A file brought up by compose alone; taken down when dropped, however the test ends.
struct Up<'a> {
    compose: &'a Compose,
    project: String,
    path: PathBuf,
    ports: [u16; 4],
}

impl Up<'_> {
    fn compose(&self, arguments: &[&str]) -> Output {
        let mut command = self.compose.command(&["-p", &self.project, "-f"]);
        command.arg(&self.path).args(arguments);
        with_ports(&mut command, self.ports);
        command.output().unwrap()
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let output = self.compose(&["down", "--volumes"]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "{}", text(&output));
        }
    }
}

#[test]
fn a_file_alone_gives_a_cluster_that_replicates_by_either_compose() {
    let Some(composes) = composes() else { return };
    let _turn = TestDir::new();
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    // By the other compose and all of them: tests/seeds.rs.
    for (index, compose) in composes.iter().enumerate() {
        for (name, replicas) in [
            [("archive", 0), ("sync", 2)],
            [("physical", 2), ("logical", 3)],
        ][index % 2]
        {
            let up = Up {
                compose,
                project: format!("replbench-test-{name}-{index}"),
                path: file(&format!("{name}.yaml")),
                ports: ports(),
            };
            let output = up.compose(&["up", "--detach"]);
            assert!(output.status.success(), "{name}: {}", text(&output));
            let (primary, last) = (server(up.ports[0]), server(up.ports[replicas.max(1)]));
            let replicates = || {
                let found = try_number(&primary, streaming)?;
                let is_there = try_number(&last, "SELECT 1")?;
                if found == i64::try_from(replicas).unwrap() && is_there == 1 {
                    return Ok(());
                }
                Err(format!("{found} stream"))
            };
            until(PATIENCE, replicates).unwrap_or_else(|missing| panic!("{name}: {missing}"));
            if name == "logical" {
                primary.sql("INSERT INTO users (name) VALUES ('Ada')");
            } else {
                primary.sql("CREATE TABLE users AS SELECT 'Ada' AS name");
            }
            let arrived = || match try_number(&last, "SELECT count(*) FROM users")? {
                1 => Ok(()),
                other => Err(format!("{other} rows")),
            };
            until(PATIENCE, arrived).unwrap_or_else(|missing| panic!("{name}: {missing}"));
            let project = format!("com.docker.compose.project={}", up.project);
            drop(up);
            let left = left(&project);
            assert!(left.is_empty(), "{name} left behind: {left:?}");
        }
    }
}

#[test]
fn a_run_measures_the_modes_that_a_file_allows_and_leaves_nothing() {
    let Some(composes) = composes() else { return };
    let dir = TestDir::new();
    for (name, modes, compose) in [
        ("physical", "async,sync:first-2", &composes[0]),
        ("logical", "logical,logical-sync", composes.last().unwrap()),
    ] {
        let cluster = format!("compose:{}", file(&format!("{name}.yaml")).display());
        let arguments = [
            "run",
            "product-insert",
            "--cluster",
            &cluster,
            "--modes",
            modes,
        ];
        let mut command = command(dir.path(), ports(), &[&arguments, SHORT].concat());
        compose.be_found(&mut command);
        let output = command.output().unwrap();
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            text: text(&output),
        };
        ended.is_whole();
        assert!(
            ended.text.contains("ports that Docker publishes"),
            "{}",
            ended.text
        );
        nothing_is_left();
        let results = dir.path().join("results");
        let record = support::subdirectory(&results).unwrap();
        let manifest = fs::read_to_string(record.join("manifest.json")).unwrap();
        for expected in [
            "\"servers_made\": \"compose\"",
            "a port that Docker publishes at 127.0.0.1:",
        ] {
            assert!(manifest.contains(expected), "{manifest}");
        }
        // What a password was found by stays out of all files.
        assert!(!manifest.contains("POSTGRES_PASSWORD"), "{manifest}");
        let seen = fs::read_to_string(record.join("visibility.csv")).unwrap();
        assert!(
            seen.lines().count() > 1,
            "{name}: nothing was seen on a replica"
        );
        fs::remove_dir_all(results).unwrap();
    }
}

/// A project that is taken down when the test fails.
struct Project<'a>(&'a Path, String);

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let arguments = ["cluster", "down", "--compose", &self.1];
            // The failure that is told already is worth more than this one.
            let _ = command(self.0, ports(), &arguments).output();
        }
    }
}

#[test]
fn servers_that_are_kept_are_as_the_file_made_them_until_they_are_taken_down() {
    let Some(composes) = composes() else { return };
    let dir = TestDir::new();
    let ports = ports();
    let replbench = |arguments: &[&str]| {
        let mut command = command(dir.path(), ports, arguments);
        composes.last().unwrap().be_found(&mut command);
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    let path = file("logical.yaml");
    let cluster = format!("compose:{}", path.display());
    let arguments = [
        "run",
        "product-insert",
        "--keep",
        "--cluster",
        &cluster,
        "--modes",
        "logical",
    ];
    let (_, said) = replbench(&[&arguments, SHORT].concat());
    let project = said
        .split("cluster down --compose ")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    let project = Project(dir.path(), project[..project.find('`').unwrap()].to_owned());
    let project = project.1.as_str();
    // Nothing is shared with another project of the same file.
    for kind in ["network", "volume"] {
        let listed = process::command("docker")
            .args([
                kind,
                "ls",
                "--format",
                "{{.Name}}",
                "--filter",
                "label=replbench.project",
            ])
            .output()
            .unwrap();
        let names = text(&listed);
        assert!(
            names.lines().all(|name| name.starts_with(project)),
            "{names}"
        );
    }
    // Of a replbench that has ended, and yet to stay.
    replbench(&["clean"]);
    // Its own subscriptions go on some seconds after they were told to.
    let replicates = || {
        let (code, status) = replbench(&["cluster", "status", "--compose", project]);
        let lines = [
            "sub1     subscriber      streaming",
            "sub3     subscriber      streaming",
        ];
        let is_whole = code == Some(0) && lines.iter().all(|line| status.contains(line));
        if is_whole { Ok(()) } else { Err(status) }
    };
    until(PATIENCE, replicates).unwrap();
    let (publisher, subscriber) = (server(ports[0]), server(ports[3]));
    for server in [&publisher, &subscriber] {
        let databases = "SELECT count(*) FROM pg_database WHERE datname = 'replbench'";
        assert_eq!(try_number(server, databases), Ok(0));
    }
    publisher.sql("INSERT INTO users (name) VALUES ('Ada')");
    let arrived = || match try_number(&subscriber, "SELECT count(*) FROM users")? {
        1 => Ok(()),
        other => Err(format!("{other} rows")),
    };
    until(PATIENCE, arrived).unwrap();
    let (code, said) = replbench(&["cluster", "down", "--compose", project]);
    assert!(
        code == Some(0) && said.contains("removed 4 containers"),
        "{said}"
    );
    nothing_is_left();
    let (code, said) = replbench(&["cluster", "status", "--compose", project]);
    assert!(
        code == Some(3) && said.contains("no container is of project"),
        "{said}"
    );
}

#[test]
fn a_crashed_container_is_started_again_by_the_script_of_faults() {
    if composes().is_none() {
        return;
    }
    let dir = TestDir::new();
    let cluster = format!("compose:{}", file("physical.yaml").display());
    let arguments = [
        "run",
        "product-insert",
        "--cluster",
        &cluster,
        "--modes",
        "async",
    ];
    let faults = [
        "--fault",
        "pause-replay s1 at 1s for 1s",
        "--fault",
        "standby-crash s2 at 1s for 1s",
        "--duration",
        "6s",
    ];
    let short: Vec<_> = SHORT
        .iter()
        .copied()
        .filter(|it| !["--duration", "2s"].contains(it))
        .collect();
    let ended = replbench(dir.path(), &[&arguments[..], &faults, &short].concat());
    ended.is_whole();
    let record = support::subdirectory(&dir.path().join("results")).unwrap();
    let events = fs::read_to_string(record.join("events.csv")).unwrap();
    assert_eq!(events.matches("fault_ended").count(), 2, "{events}");
    nothing_is_left();
}

#[test]
fn a_run_that_is_cut_short_leaves_nothing() {
    if composes().is_none() {
        return;
    }
    let dir = TestDir::new();
    let cluster = format!("compose:{}", file("physical.yaml").display());
    let arguments = [
        "run",
        "product-insert",
        "--cluster",
        &cluster,
        "--duration",
        "60s",
        "--modes",
        "async",
    ];
    // While compose starts, and while load is offered. One that is killed: tests/compose_faults.rs.
    for measures in [false, true] {
        let mut child = command(dir.path(), ports(), &arguments).spawn().unwrap();
        let is_there = || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the run has ended by itself: {ended:?}");
            let is_there = if measures {
                has_measured(dir.path())
            } else {
                !left("replbench.project").is_empty()
            };
            is_there.then_some(()).ok_or("not yet")
        };
        until(PATIENCE, is_there).unwrap();
        signal(child.id().cast_signed(), Signal::INT);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(4));
        nothing_is_left();
        fs::remove_dir_all(dir.path().join("results")).unwrap();
    }
}

/// Whether seconds of a cell that counts have reached the disk.
fn has_measured(dir: &Path) -> bool {
    let record = support::subdirectory(&dir.join("results"));
    let intervals = record.and_then(|it| fs::read_to_string(it.join("intervals.csv")).ok());
    intervals.is_some_and(|text| text.lines().count() > 2)
}

#[test]
fn what_is_no_cluster_is_refused_with_a_remedy_and_leaves_nothing() {
    if composes().is_none() {
        return;
    }
    let dir = TestDir::new();
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let unlabelled = write("unlabelled.yaml", "services: {db: {image: x}}\n");
    let broken = write("broken.yaml", "services: [\n");
    let absent = write(
        "absent.yaml",
        "services:\n  db:\n    image: 127.0.0.1:1/absent\n    labels: {replbench.role: primary}\n",
    );
    let ends = write(
        "ends.yaml",
        &format!(
            "services:\n  db:\n    image: {IMAGE}\n    labels: {{replbench.role: primary}}\n    ports: [\"127.0.0.1::5432\"]\n"
        ),
    );
    for (compose, modes, code, expected) in [
        (dir.path().join("nowhere.yaml"), "async", 2, "is no file"),
        (
            unlabelled,
            "async",
            2,
            "labels no service with replbench.role = primary",
        ),
        (broken, "async", 3, "config"),
        (
            file("physical.yaml"),
            "logical",
            2,
            "it needs a node of role subscriber, and there is none",
        ),
        (
            file("physical.yaml"),
            "sync:any-3",
            2,
            "it needs 3 nodes of role standby, and there are 2",
        ),
        (
            absent.clone(),
            "async",
            2,
            "it needs a node of role standby",
        ),
    ] {
        let ended = run(dir.path(), &compose, modes);
        assert_eq!(ended.code, code, "{}", ended.text);
        assert!(ended.text.contains(expected), "{}", ended.text);
    }
    // What is found out when it starts: `async` needs a standby, so there is one.
    let standby = "  s1:\n    image: x\n    labels: {replbench.role: standby}\n    ports: [\"127.0.0.1::5432\"]\n";
    for (compose, expected) in [
        (absent, "an image is neither here nor could it be pulled"),
        (ends, "needs a password for its superuser"),
    ] {
        let content = fs::read_to_string(&compose).unwrap()
            + &standby.replace("image: x", &format!("image: {IMAGE}"));
        fs::write(&compose, content).unwrap();
        let ended = run(dir.path(), &compose, "async");
        assert_eq!(ended.code, 3, "{}", ended.text);
        assert!(ended.text.contains(expected), "{}", ended.text);
        nothing_is_left();
    }
}

#[test]
fn without_a_port_or_docker_nothing_starts_and_it_is_said_why() {
    if composes().is_none() {
        return;
    }
    let dir = TestDir::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut taken = ports();
    taken[0] = held.local_addr().unwrap().port();
    let cluster = format!("compose:{}", file("physical.yaml").display());
    let arguments = [
        "run",
        "product-insert",
        "--cluster",
        &cluster,
        "--modes",
        "async",
    ];
    let output = command(dir.path(), taken, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("another program has a port"),
        "{}",
        text(&output)
    );
    nothing_is_left();
    let mut without_docker = command(dir.path(), ports(), &arguments);
    let output = without_docker.env("PATH", dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("no program `docker`"),
        "{}",
        text(&output)
    );
    let mut without_engine = command(dir.path(), ports(), &arguments);
    let output = without_engine
        .env("DOCKER_HOST", "tcp://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("the Docker engine does not answer"),
        "{}",
        text(&output)
    );
}
