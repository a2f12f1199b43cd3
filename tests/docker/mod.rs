//! Docker in tests: an image made from Debian's packages, both composes, and what is left of a test's containers.
//!
//! Without a Docker engine these tests fail where `CI` is set, and say elsewhere that they did not run.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "not every test uses all; a helper of a test fails as the test does, or says that it did not run"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use replbench::cluster::process;

use crate::support::REPLBENCH;

pub(crate) const IMAGE: &str = "replbench-test/postgres:debian";

/// A compose program, and where Docker finds it if that is a plugin.
#[derive(Clone)]
pub(crate) struct Compose {
    words: Vec<&'static str>,
    docker_config: Option<PathBuf>,
}

impl Compose {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(self.words[0]);
        command.args(&self.words[1..]).args(arguments);
        self.be_found(&mut command);
        command
    }

    pub(crate) fn be_found(&self, command: &mut Command) {
        if let Some(directory) = &self.docker_config {
            command.env("DOCKER_CONFIG", directory);
        }
    }
}

fn works(words: &[&str]) -> bool {
    let output = process::command(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

fn make(script: &str, argument: impl AsRef<std::ffi::OsStr>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/docker")
        .join(script);
    let built = process::command(script).arg(argument).output().unwrap();
    assert!(built.status.success(), "{}", text(&built));
}

/// Compose 1, where this machine has it, and compose 2. `None`: there is no Docker, and the caller has nothing to do.
pub(crate) fn composes() -> Option<&'static [Compose]> {
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
            make("image", IMAGE);
        }
        let plugin = Compose {
            words: vec!["docker", "compose"],
            docker_config: (!works(&["docker", "compose", "version"])).then(|| {
                let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-config");
                if !directory.join("cli-plugins/docker-compose").exists() {
                    make("plugin", &directory);
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

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("compose")
        .join(name)
}

/// Ports that nobody has.
pub(crate) fn ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|it| it.local_addr().unwrap().port())
}

pub(crate) fn with_ports(command: &mut Command, ports: [u16; 4]) {
    command.env("REPLBENCH_PG_IMAGE", IMAGE);
    command.env("REPLBENCH_PRIMARY_PORT", ports[0].to_string());
    for (index, port) in ports.iter().enumerate().skip(1) {
        for name in ["S", "SUB", "A"] {
            command.env(format!("REPLBENCH_{name}{index}_PORT"), port.to_string());
        }
    }
}

pub(crate) fn command(dir: &Path, ports: [u16; 4], arguments: &[&str]) -> Command {
    let mut command = process::command(REPLBENCH);
    command.args(arguments).current_dir(dir);
    with_ports(&mut command, ports);
    command
}

/// What bears replbench's label, or a label of compose's with this project.
pub(crate) fn left(label: &str) -> Vec<String> {
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

pub(crate) fn nothing_is_left() {
    let left = left("replbench.project");
    assert!(left.is_empty(), "left behind: {left:?}");
}
