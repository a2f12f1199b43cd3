//! Runs on clusters of compose files: each file that comes with replbench by compose alone and under `run`, what is refused, and
//! that nothing is left. The image is made from Debian's packages by `tests/compose_image/build`.
//!
//! Without a Docker engine these tests fail where `CI` is set, and say elsewhere that they did not run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails as the test does, or says that it did not run"
)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use replbench::cluster::process;
use replbench::pg::{Endpoint, Password};
use rustix::process::Signal;
use support::{Ended, REPLBENCH, Server, TestDir, signal, until};

const IMAGE: &str = "replbench-test/postgres:debian";
const PATIENCE: Duration = Duration::from_mins(2);

/// A compose program, and where Docker finds it if that is a plugin.
#[derive(Clone)]
struct Compose {
    words: Vec<&'static str>,
    docker_config: Option<PathBuf>,
}

impl Compose {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(self.words[0]);
        command.args(&self.words[1..]).args(arguments);
        self.be_found(&mut command);
        command
    }

    fn be_found(&self, command: &mut Command) {
        if let Some(directory) = &self.docker_config {
            command.env("DOCKER_CONFIG", directory);
        }
    }
}

fn works(words: &[&str]) -> bool {
    let output = process::command(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

fn build(script: &str, argument: impl AsRef<std::ffi::OsStr>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/compose_image")
        .join(script);
    let built = process::command(script).arg(argument).output().unwrap();
    assert!(built.status.success(), "{}", text(&built));
}

/// Compose 1, where this machine has it, and compose 2. `None`: there is no Docker, and the caller has nothing to do.
fn composes() -> Option<&'static [Compose]> {
    static FOUND: OnceLock<Option<Vec<Compose>>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        if !works(&["docker", "info"]) {
            assert!(
                std::env::var_os("CI").is_none(),
                "this test needs a Docker engine"
            );
            eprintln!("not run: there is no Docker engine");
            return None;
        }
        if !works(&["docker", "image", "inspect", IMAGE]) {
            build("build", IMAGE);
        }
        let plugin = Compose {
            words: vec!["docker", "compose"],
            docker_config: (!works(&["docker", "compose", "version"])).then(|| {
                let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-config");
                if !directory.join("cli-plugins/docker-compose").exists() {
                    build("plugin", &directory);
                }
                directory
            }),
        };
        let standalone = works(&["docker-compose", "version"]).then(|| Compose {
            words: vec!["docker-compose"],
            docker_config: None,
        });
        Some(standalone.into_iter().chain([plugin]).collect())
    });
    found.as_deref()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("compose")
        .join(name)
}

/// Ports that nobody has.
fn ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|it| it.local_addr().unwrap().port())
}

fn with_ports(command: &mut Command, ports: [u16; 4]) {
    command.env("REPLBENCH_PG_IMAGE", IMAGE);
    command.env("REPLBENCH_PRIMARY_PORT", ports[0].to_string());
    for (index, port) in ports.iter().enumerate().skip(1) {
        for name in ["S", "SUB", "A"] {
            command.env(format!("REPLBENCH_{name}{index}_PORT"), port.to_string());
        }
    }
}

fn command(dir: &Path, ports: [u16; 4], arguments: &[&str]) -> Command {
    let mut command = process::command(REPLBENCH);
    command.args(arguments).current_dir(dir);
    with_ports(&mut command, ports);
    command
}

fn replbench(dir: &Path, arguments: &[&str]) -> Ended {
    let output = command(dir, ports(), arguments).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        text: text(&output),
    }
}

/// What bears replbench's label, or a label of compose's with this project.
fn left(label: &str) -> Vec<String> {
    let kinds = [
        &["container", "ls", "--all"][..],
        &["network", "ls"],
        &["volume", "ls"],
    ];
    let of_kind = kinds.iter().map(|kind| {
        let filter = format!("label={label}");
        let output = process::command("docker")
            .args(*kind)
            .args(["--quiet", "--filter", &filter])
            .output();
        text(&output.unwrap())
    });
    let all: String = of_kind.collect();
    all.split_whitespace().map(Into::into).collect()
}

fn nothing_is_left() {
    let left = left("replbench.project");
    assert!(left.is_empty(), "left behind: {left:?}");
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
fn each_file_alone_gives_a_cluster_that_replicates_by_every_compose() {
    let Some(composes) = composes() else { return };
    let _turn = TestDir::new();
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    let files = [("physical", 2), ("sync", 2), ("logical", 3), ("archive", 0)];
    for (index, compose) in composes.iter().enumerate() {
        // All by the one, and one by the other.
        for (name, replicas) in files.into_iter().skip(3 * index) {
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
fn a_run_on_each_file_measures_its_modes_and_leaves_nothing() {
    let Some(composes) = composes() else { return };
    let dir = TestDir::new();
    for (name, modes, compose) in [
        ("physical", "async,sync:first-2", &composes[0]),
        ("logical", "logical,logical-sync", composes.last().unwrap()),
        ("archive", "archive", &composes[0]),
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
    if composes().is_none() {
        return;
    }
    let dir = TestDir::new();
    let ports = ports();
    let replbench = |arguments: &[&str]| {
        let output = command(dir.path(), ports, arguments).output().unwrap();
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
    // Of a replbench that has ended, and yet to stay.
    replbench(&["clean"]);
    // Its own subscriptions go on some seconds after they were told to.
    let replicates = || {
        let (code, status) = replbench(&["cluster", "status", "--compose", project]);
        let lines = ["-> users_sub3", "sub1     subscriber"];
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
    let path = file("sync.yaml").display().to_string();
    let (code, said) = replbench(&["cluster", "up", "--compose", &path]);
    assert_eq!(code, Some(0), "{said}");
    let project = Project(
        dir.path(),
        said.trim().rsplit(' ').next().unwrap().to_owned(),
    );
    let project = project.1.as_str();
    let (_, status) = replbench(&["cluster", "status", "--compose", project]);
    assert!(status.contains("-> s2       streaming, quorum"), "{status}");
    let (code, said) = replbench(&["cluster", "down", "--compose", project]);
    assert!(
        code == Some(0) && said.contains("removed 3 containers"),
        "{said}"
    );
    nothing_is_left();
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
fn a_run_that_is_cut_short_leaves_nothing_and_a_killed_one_is_cleaned_up() {
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
    for (measures, end, code) in [
        // While compose starts, and while load is offered.
        (false, Signal::INT, Some(4)),
        (true, Signal::INT, Some(4)),
        (true, Signal::KILL, None),
    ] {
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
        signal(child.id().cast_signed(), end);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), code);
        if end == Signal::KILL {
            assert!(!left("replbench.project").is_empty());
            let cleaned = replbench(dir.path(), &["clean"]);
            assert!(
                cleaned.text.contains("removed compose project replbench-"),
                "{}",
                cleaned.text
            );
        }
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
