//! Faults on the containers of a compose file: what they do, that they are undone, and that nothing is left of them.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod docker;
mod support;

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use docker::{command, composes, file, left, nothing_is_left, ports, text};
use replbench::cluster::process;
use replbench::pg::{Endpoint, Password};
use replbench::sample::{AuditCheck, AuditResult};
use rustix::process::Signal;
use serde_json::Value;
use support::{Ended, Record, Server, TestDir, signal, until};

const PATIENCE: Duration = Duration::from_mins(2);

/// A run of one cell on `compose/physical.yaml`.
fn arguments(faults: &[&str], duration: &'static str) -> Vec<String> {
    let cluster = format!("compose:{}", file("physical.yaml").display());
    let fixed = [
        "run",
        "product-insert",
        "--cluster",
        &cluster,
        "--modes",
        "async",
        "--rate",
        "100",
        "--duration",
        duration,
        "--warmup",
        "0s",
        "--repeats",
        "1",
        "--connections",
        "16",
        "--results",
        "results",
    ];
    let faults = faults.iter().flat_map(|fault| ["--fault", fault]);
    fixed.into_iter().chain(faults).map(Into::into).collect()
}

fn run(dir: &Path, ports: [u16; 4], faults: &[&str], duration: &'static str) -> Command {
    let arguments = arguments(faults, duration);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    command(dir, ports, &arguments)
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        text: text(&output),
    }
}

fn record(dir: &Path) -> Record {
    Record(support::subdirectory(&dir.join("results")).unwrap())
}

/// What Docker says of the container of a service.
fn container(service: &str) -> Option<Value> {
    let filter = format!("label=com.docker.compose.service={service}");
    let docker = |arguments: &[&str]| {
        let output = process::command("docker").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let listing = [
        "ps",
        "--all",
        "--quiet",
        "--filter",
        "label=replbench.project",
    ];
    let ids = docker(&[&listing[..], &["--filter", &filter]].concat());
    let found: Value = serde_json::from_str(&docker(&["inspect", ids.trim()])).ok()?;
    found.get(0).cloned()
}

/// How a service's container is on the network over which it replicates.
fn replication(service: &str) -> Option<Value> {
    let container = container(service)?;
    let networks = container["NetworkSettings"]["Networks"].as_object()?;
    let mut own = networks.iter();
    let own = own.find(|(name, _)| name.ends_with("_replication"));
    own.map(|(_, network)| network.clone())
}

fn is_paused(service: &str) -> bool {
    container(service).is_some_and(|it| it["State"]["Paused"] == true)
}

/// A run, which ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            signal(self.0.id().cast_signed(), Signal::INT);
            // The failure that is told already is worth more than this one.
            let _ = self.0.wait();
        }
    }
}

/// Waits for what comes while the program runs.
#[track_caller]
fn awaits<T>(
    Running(child): &mut Running,
    what: &str,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let found = until(PATIENCE, || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "ended before {what}: {ended:?}");
        attempt().ok_or("not yet")
    });
    found.unwrap_or_else(|_| panic!("no {what}"))
}

fn rows(port: u16) -> Result<i64, String> {
    let password = Some(Password::new("replbench"));
    let endpoint = Endpoint {
        user: "postgres".into(),
        database: "replbench".into(),
        ..Endpoint::on_loopback("node", port, "postgres", password)
    };
    let server = Server { pid: 0, endpoint };
    let rows = server.try_sql(r#"SELECT count(*) FROM "Product""#)?;
    Ok(rows[0][0].as_ref().unwrap().parse().unwrap())
}

#[test]
fn a_standby_that_is_cut_off_stays_readable_and_a_paused_one_goes_on_and_both_catch_up() {
    if composes().is_none() {
        return;
    }
    let (dir, ports) = (TestDir::new(), ports());
    let faults = [
        "partition s1 at 1s for 2s",
        "frozen-standby s2 at 1s for 2s",
    ];
    let mut command = run(dir.path(), ports, &faults, "8s");
    let mut child = Running(command.spawn().unwrap());
    // One that does not run yet has no address.
    let is_there = || replication("s1").filter(|it| it["IPAddress"] != "");
    let before = awaits(&mut child, "network of s1", is_there);
    awaits(&mut child, "pause of s2", || is_paused("s2").then_some(()));
    awaits(&mut child, "cut", || {
        replication("s1").is_none().then_some(())
    });
    // It is read, and shows nothing new.
    let (first, second) = (rows(ports[1]).unwrap(), rows(ports[1]).unwrap());
    assert!(replication("s1").is_none(), "the cut is over already");
    assert!(first > 0 && second == first, "{first}, then {second}");
    let after = awaits(&mut child, "end of the cut", || replication("s1"));
    for same in ["Aliases", "IPAddress"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    assert!(after["Aliases"].to_string().contains("\"s1\""), "{after}");
    awaits(&mut child, "end of the pause", || {
        (!is_paused("s2")).then_some(())
    });
    // On a busy host it may be INVALID, which is not the matter here.
    let code = child.0.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 5)), "{code:?}");
    let record = record(dir.path());
    for kind in ["fault_began", "fault_ended"] {
        assert_eq!(record.events(kind).len(), 2, "{kind}");
    }
    let audit = record.audit();
    assert!(
        !audit.is_empty() && audit.iter().all(|row| row.result == AuditResult::Pass),
        "{audit:?}"
    );
    let faults = record.faults();
    for (node, fault) in ["s1", "s2"].into_iter().zip(&faults) {
        assert_eq!(fault.node, node);
        let (from, to) = (fault.began_us, fault.ended_us.unwrap());
        let during = record.lag(node).into_iter();
        let during = during.filter(|row| (from..to).contains(&row.t_us));
        let most = during.filter_map(|row| row.replay_lag_bytes).max();
        assert!(most > Some(10_000), "{node}: {most:?}");
        let seen = record.visibility(1, node).into_iter();
        let slowest = seen.filter_map(|row| row.max_hi_us).fold(0.0, f64::max);
        assert!((1.5e6..8e6).contains(&slowest), "{node}: {slowest}");
        let unseen: u64 = record.visibility(1, node).iter().map(|it| it.unseen).sum();
        assert_eq!(unseen, 0, "{node}");
    }
    nothing_is_left();
}

#[test]
fn a_run_that_is_killed_in_the_middle_of_faults_is_cleaned_up() {
    if composes().is_none() {
        return;
    }
    let (dir, ports) = (TestDir::new(), ports());
    let faults = [
        "partition s1 at 1s for 50s",
        "frozen-standby s2 at 1s for 50s",
    ];
    let mut command = run(dir.path(), ports, &faults, "60s");
    let mut child = Running(command.spawn().unwrap());
    awaits(&mut child, "network of s1", || replication("s1"));
    let both = || (replication("s1").is_none() && is_paused("s2")).then_some(());
    awaits(&mut child, "both faults", both);
    signal(child.0.id().cast_signed(), Signal::KILL);
    child.0.wait().unwrap();
    assert!(is_paused("s2") && !left("replbench.project").is_empty());
    let cleaned = ended(&mut docker::command(dir.path(), ports, &["clean"]));
    assert!(
        cleaned.code == 0
            && cleaned.text.contains("removed compose project replbench-")
            && cleaned.text.contains("with 3 containers"),
        "{}",
        cleaned.text
    );
    nothing_is_left();
}

#[test]
fn a_standby_takes_the_place_of_a_container_that_is_killed_or_shut_down() {
    if composes().is_none() {
        return;
    }
    for fault in [
        "failover primary at 2s for 1s",
        "switchover primary at 2s for 1s",
    ] {
        let dir = TestDir::new();
        let ended = ended(&mut run(dir.path(), ports(), &[fault], "8s"));
        ended.is_whole();
        let record = record(dir.path());
        let [row] = record.faults().try_into().unwrap();
        let promoted = row.promoted.unwrap();
        assert!(["s1", "s2"].contains(&promoted.as_str()), "{promoted}");
        assert_eq!((row.ended_us, row.rejoin_us), (None, None));
        let rto = row.rto_us.unwrap();
        assert!((1_000..6_000_000).contains(&rto), "{rto}");
        let lost = row.lost.unwrap();
        assert!(fault.starts_with("failover") || lost == 0, "{lost} lost");
        let cell = record.cell();
        let note = "`primary` stayed stopped after the failover";
        assert!(cell.notes.contains(note), "{}", cell.notes);
        let audit = record.audit();
        let looked_for = |node: &str, check| {
            let mut rows = audit.iter();
            rows.any(|row| row.node == node && row.check == check)
        };
        for (node, is_there) in [("s1", true), ("s2", true), ("primary", false)] {
            let present = looked_for(node, AuditCheck::Present);
            assert_eq!(present, is_there, "{node}: {audit:?}");
            let fenced = looked_for(node, AuditCheck::Fenced);
            assert_eq!(fenced, !is_there, "{node}: {audit:?}");
        }
        assert!(
            audit.iter().all(|row| row.result != AuditResult::Fail),
            "{audit:?}"
        );
        let manifest = serde_json::to_value(record.manifest()).unwrap();
        assert_eq!(manifest["servers_made"], "compose_every_cell");
        nothing_is_left();
    }
}

#[test]
fn what_docker_cannot_do_is_refused_before_anything_starts() {
    if composes().is_none() {
        return;
    }
    let dir = TestDir::new();
    let on = |compose: &Path, fault: &str, more: &[&str]| {
        let cluster = format!("compose:{}", compose.display());
        let fixed = ["run", "product-insert", "--cluster", &cluster];
        let fixed = [&fixed[..], &["--fault", fault], more].concat();
        let ended = ended(&mut command(dir.path(), ports(), &fixed));
        assert_eq!(ended.code, 2, "{fault}: {}", ended.text);
        ended.text
    };
    let physical = file("physical.yaml");
    let one_network = dir.path().join("one_network.yaml");
    let service = |role| format!("{{image: x, labels: {{replbench.role: {role}}}}}");
    let (primary, standby) = (service("primary"), service("standby"));
    let content = format!("services: {{db: {primary}, s1: {standby}}}\n");
    std::fs::write(&one_network, content).unwrap();
    let slow = "slow-network s1 at 1s for 1s delay 5ms";
    for (compose, fault, more, reason) in [
        (&physical, slow, &[][..], "NET_ADMIN"),
        (
            &physical,
            "pause-sending s1 at 1s for 1s",
            &[],
            "`docker pause`",
        ),
        (
            &physical,
            "partition primary at 1s for 1s",
            &[],
            "its target can be s1, s2",
        ),
        (
            &physical,
            "failover primary at 1s for 1s",
            &["--keep"],
            "--keep leaves the servers",
        ),
        (
            &one_network,
            "partition s1 at 1s for 1s",
            &[],
            "network `default`",
        ),
    ] {
        let said = on(compose, fault, more);
        assert!(said.contains(reason), "no `{reason}` in: {said}");
    }
    assert!(!dir.path().join("results").exists());
    nothing_is_left();
}
