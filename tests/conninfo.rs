//! Connection strings, variables and files as psql reads them: the same input leads to the same server, or to the same kind of error.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use replbench::cluster::{Binaries, Cluster, ClusterConfig, process};
use replbench::pg::conninfo::{Conninfo, Surroundings};
use replbench::pg::locate;
use replbench::topology::NodeCounts;
use support::{REPLBENCH, TestDir, block_on};

/// A process's environment, made up.
#[derive(Clone, Default)]
struct Variables(BTreeMap<String, String>);

impl Surroundings for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn user(&self) -> Option<String> {
        Some("nobody".into())
    }
}

/// The port of the server that answered, or what kind of thing went wrong.
type Outcome = Result<u16, &'static str>;

/// The first kind of which a message has a mark.
fn kind(message: &str, kinds: &[(&'static str, &[&str])]) -> &'static str {
    let is_of = |marks: &[&str]| marks.iter().any(|mark| message.contains(mark));
    let found = kinds.iter().find(|(_, marks)| is_of(marks));
    found.map_or("not understood", |(kind, _)| kind)
}

fn by_psql(
    binaries: &Binaries,
    conninfo: &str,
    variables: &Variables,
    home: &Path,
) -> (Outcome, String) {
    let output = process::command(binaries.directory().join("psql"))
        .args([
            "-X",
            "-w",
            "-At",
            "-d",
            conninfo,
            "-c",
            "SELECT current_setting('port')",
        ])
        .env("HOME", home)
        .envs(&variables.0)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let port = String::from_utf8_lossy(&output.stdout).trim().parse();
    let kinds: [(&str, &[&str]); 6] = [
        (
            "role",
            &["hot standby mode", "read-only", "not in hot standby"],
        ),
        ("timeout", &["timeout expired"]),
        ("encryption", &["does not support SSL"]),
        ("password", &["password"]),
        ("database", &["does not exist"]),
        ("refused", &["refused"]),
    ];
    (port.map_err(|_| kind(&said, &kinds)), said)
}

fn by_replbench(conninfo: &str, variables: &Variables) -> (Outcome, String) {
    let parameters = conninfo
        .parse::<Conninfo>()
        .and_then(|it| it.complete(variables));
    let parameters = match parameters {
        Ok(parameters) => parameters,
        Err(error) => return (Err("not understood"), error.to_string()),
    };
    let located = block_on(async {
        let (endpoint, session) = locate("node", &parameters, "test").await?;
        session.close().await;
        Ok::<_, replbench::pg::LocateError>(endpoint.port)
    });
    let kinds: [(&str, &[&str]); 6] = [
        ("role", &["target_session_attrs"]),
        ("timeout", &["did not answer within"]),
        ("encryption", &["TLS", "encrypt"]),
        ("password", &["password", "28P01"]),
        ("database", &["3D000"]),
        ("refused", &["refused"]),
    ];
    match located {
        Ok(port) => (Ok(port), String::new()),
        Err(error) => {
            let said = error.to_string();
            (Err(kind(&said, &kinds)), said)
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "most of it is a table of inputs")]
fn what_psql_understands_leads_to_the_same_server_or_the_same_kind_of_error() {
    let dir = TestDir::new();
    let binaries = Binaries::find(None).expect("this test needs PostgreSQL: see scripts/test");
    let counts = NodeCounts {
        standbys: 2,
        ..NodeCounts::default()
    };
    let mut config = ClusterConfig::new(counts, binaries.clone(), dir.path().join("cluster"));
    config.launcher = REPLBENCH.into();
    let cluster = block_on(Cluster::start(config)).unwrap();
    let port = |node: &str| cluster.node(node).unwrap().endpoint.port;
    let (p, s1, s2) = (port("primary"), port("s1"), port("s2"));
    let endpoint = &cluster.primary().endpoint;
    let password = endpoint.password.as_ref().unwrap().reveal().to_owned();
    let home = dir.path();
    let file = |name: &str, content: &str, mode: u32| {
        let path = home.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let line = format!("127.0.0.1:*:*:replbench:{password}\n");
    let own = file("own.pgpass", &line, 0o600);
    let open = file("open.pgpass", &line, 0o644);
    let service = file(
        "services.conf",
        &format!("[shop]\nhost=127.0.0.1\nport={s1}\nuser=replbench\ndbname=replbench\n"),
        0o644,
    );
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = silent.local_addr().unwrap().port();
    let user = "user=replbench dbname=replbench";
    let host = format!("host=127.0.0.1 {user}");
    let three = format!("host=127.0.0.1,127.0.0.1,127.0.0.1 {user}");
    let passfile = ("PGPASSFILE", own.as_str());
    let cases: Vec<(String, Vec<(&str, &str)>)> = vec![
        (format!("{host} port={p}"), vec![passfile]),
        (format!("  {host}  port = '{p}' "), vec![passfile]),
        (
            format!("postgresql://replbench@127.0.0.1:{p}/replbench"),
            vec![passfile],
        ),
        (
            format!(
                "postgres://replbench:{password}@127.0.0.1:{p}/replbench?application_name=a%20b"
            ),
            vec![],
        ),
        (
            format!("postgresql:///replbench?host=127.0.0.1&port={p}&user=replbench"),
            vec![passfile],
        ),
        (
            format!("port={p} password={password}"),
            vec![
                ("PGHOST", "127.0.0.1"),
                ("PGUSER", "replbench"),
                ("PGDATABASE", "replbench"),
            ],
        ),
        (format!("{host} port={p} passfile={own}"), vec![]),
        (format!("{host} port={p} passfile={open}"), vec![]),
        (format!("{host} port={p}"), vec![]),
        (format!("{host} port={p}"), vec![("PGPASSWORD", "wrong")]),
        (
            format!("{host} port={p} password={password}"),
            vec![("PGPASSWORD", "wrong")],
        ),
        (
            format!("{host} port={p}"),
            vec![("PGPASSWORD", password.as_str())],
        ),
        (
            format!("host=127.0.0.1 port={p} user=replbench dbname=absent"),
            vec![passfile],
        ),
        (format!("{host} port=1"), vec![passfile]),
        (host.clone(), vec![passfile, ("PGPORT", "1")]),
        (
            format!("host=127.0.0.1,127.0.0.1 port=1,{p} {user}"),
            vec![passfile],
        ),
        (
            format!("postgresql://replbench@127.0.0.1:1,127.0.0.1:{s2}/replbench"),
            vec![passfile],
        ),
        (
            format!("{three} port={s1},{s2},{p} target_session_attrs=read-write"),
            vec![passfile],
        ),
        (
            format!("{three} port={s1},{s2},{p} target_session_attrs=primary"),
            vec![passfile],
        ),
        (
            format!("{three} port={p},{s1},{s2} target_session_attrs=standby"),
            vec![passfile],
        ),
        (
            format!("{three} port={p},{s2},{s1} target_session_attrs=read-only"),
            vec![passfile],
        ),
        (
            format!("{three} port={p},{s1},{s2} target_session_attrs=prefer-standby"),
            vec![passfile],
        ),
        (
            format!("{host} port={p} target_session_attrs=prefer-standby"),
            vec![passfile],
        ),
        (
            format!("{host} port={s1} target_session_attrs=read-write"),
            vec![passfile],
        ),
        (
            format!("{host} port={p} target_session_attrs=standby"),
            vec![passfile],
        ),
        (
            format!("{host} port={s1}"),
            vec![passfile, ("PGTARGETSESSIONATTRS", "primary")],
        ),
        (
            format!(
                "host=no-such-host.invalid hostaddr=127.0.0.1 port={p} {user} password={password}"
            ),
            vec![],
        ),
        (
            "service=shop".into(),
            vec![passfile, ("PGSERVICEFILE", service.as_str())],
        ),
        (
            format!("service=shop port={p}"),
            vec![passfile, ("PGSERVICEFILE", service.as_str())],
        ),
        (
            String::new(),
            vec![
                passfile,
                ("PGSERVICEFILE", service.as_str()),
                ("PGSERVICE", "shop"),
            ],
        ),
        (
            "service=absent".into(),
            vec![("PGSERVICEFILE", service.as_str())],
        ),
        (
            format!("{host} port={p} options='-c statement_timeout=1234'"),
            vec![passfile],
        ),
        (
            format!("{host} port={mute} connect_timeout=2"),
            vec![passfile],
        ),
        (
            format!("{host} port={mute}"),
            vec![passfile, ("PGCONNECT_TIMEOUT", "2")],
        ),
        (format!("{host} port={p} sslmode=require"), vec![passfile]),
        (
            format!("{host} port={p}"),
            vec![passfile, ("PGSSLMODE", "require")],
        ),
        (format!("{host} port={p} sslmode=prefer"), vec![passfile]),
        (format!("{host} port={p} sslmode=nonsense"), vec![passfile]),
        (
            format!("{host} port={p} target_session_attrs=nonsense"),
            vec![passfile],
        ),
        (
            format!("{host} port={p} connect_timeout=soon"),
            vec![passfile],
        ),
        (format!("{host} port=abc"), vec![passfile]),
        (format!("{host} port=70000"), vec![passfile]),
        (format!("{host} port"), vec![passfile]),
        (format!("{host} port={p} hots=a"), vec![passfile]),
        (format!("{host} port={p} password='open"), vec![passfile]),
        (
            format!("host=127.0.0.1,127.0.0.1 port={p},{p},{p} {user}"),
            vec![passfile],
        ),
        (
            format!("postgresql://replbench@127.0.0.1:{p}/replbench?hots=a"),
            vec![passfile],
        ),
        (
            format!("postgresql://replbench@[127.0.0.1:{p}/replbench"),
            vec![passfile],
        ),
        (
            format!("postgresql://replbench@127.0.0.1:{p}/rep%zzbench"),
            vec![passfile],
        ),
    ];
    let mut differing = Vec::new();
    for (conninfo, variables) in &cases {
        let pairs = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut variables = Variables(pairs.collect());
        variables
            .0
            .insert("HOME".into(), home.display().to_string());
        let (theirs, said) = by_psql(&binaries, conninfo, &variables, home);
        let (ours, error) = by_replbench(conninfo, &variables);
        if theirs != ours {
            differing.push(format!(
                "{conninfo} {:?}\n  psql {theirs:?}: {said}\n  replbench {ours:?}: {error}",
                variables.0
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    block_on(cluster.stop()).unwrap();
}
