//! Encrypted connections to a real server: what `sslmode` accepts and refuses, next to psql, and both clients of the load over TLS.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use replbench::clock;
use replbench::cluster::{Binaries, Cluster, ClusterConfig, process};
use replbench::load::{Load, Outcomes, workload};
use replbench::pg::conninfo::{Conninfo, Surroundings};
use replbench::pg::{self, Endpoint, locate};
use replbench::plan::{Client, Length, Overrides, Pace, Plan, resolve};
use replbench::profile::Profile;
use replbench::sample::Timeline;
use replbench::topology::{NodeCounts, Topology};
use replbench::units::Rate;
use support::TestDir;

const MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// A primary without a replica, beside a directory for certificates that its user can read.
struct Server {
    cluster: Cluster,
    files: PathBuf,
    dir: TestDir,
}

/// A certificate and its key, in files.
type Files = (PathBuf, PathBuf);

impl Server {
    async fn start() -> Self {
        let dir = TestDir::new();
        let binaries = Binaries::find(None).expect("this test needs PostgreSQL: see scripts/test");
        let topology = Topology::from(NodeCounts::default());
        let mut config = ClusterConfig::new(topology, binaries, dir.path().join("c"));
        config.launcher = support::REPLBENCH.into();
        let cluster = Cluster::start(config).await.unwrap();
        let files = dir.path().join("certificates");
        fs::create_dir(&files).unwrap();
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            cluster,
            files,
            dir,
        }
    }

    fn endpoint(&self) -> &Endpoint {
        &self.cluster.primary().endpoint
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(self.dir.path().join("c/primary/data")).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        path
    }

    /// Has the server use a certificate, or none; returns when new sessions meet it.
    async fn use_certificate(&self, files: Option<&Files>) {
        let session = pg::connect(self.endpoint(), "test", None, TEN_SECONDS)
            .await
            .unwrap();
        let quoted = |path: &Path| pg::quote_literal(path.to_str().unwrap());
        let settings = match files {
            Some((certificate, key)) => vec![
                format!("ssl_cert_file = {}", quoted(certificate)),
                format!("ssl_key_file = {}", quoted(key)),
                "ssl = on".into(),
            ],
            None => vec!["ssl = off".to_owned()],
        };
        for setting in settings {
            let statement = format!("ALTER SYSTEM SET {setting}");
            session.client().batch_execute(&statement).await.unwrap();
        }
        let client = session.client();
        let asked = client
            .query_one("SELECT clock_timestamp()::text", &[])
            .await;
        let asked: String = asked.unwrap().get(0);
        client
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
        let deadline = clock::now() + TEN_SECONDS;
        loop {
            let new = pg::connect(self.endpoint(), "test", None, TEN_SECONDS)
                .await
                .unwrap();
            let sql = "SELECT pg_conf_load_time() >= $1::text::timestamptz \
                          AND current_setting('ssl')::bool = $2";
            let is_new = new
                .client()
                .query_one(sql, &[&asked, &files.is_some()])
                .await
                .unwrap();
            new.close().await;
            if is_new.get(0) {
                break;
            }
            assert!(
                clock::now() < deadline,
                "the server does not take up its certificate"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        session.close().await;
    }

    fn conninfo(&self, rest: &str) -> String {
        let endpoint = self.endpoint();
        format!(
            "host={} port={} user={} dbname={} {rest}",
            endpoint.host, endpoint.port, endpoint.user, endpoint.database
        )
    }

    fn password(&self) -> &str {
        self.endpoint().password.as_ref().unwrap().reveal()
    }

    /// Whether psql connects, and whether encrypted.
    fn psql(&self, conninfo: &str) -> Result<bool, String> {
        let psql = Binaries::find(None).unwrap().directory().join("psql");
        let output = process::command(psql)
            .args([
                "-XAtc",
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                conninfo,
            ])
            .env("PGPASSWORD", self.password())
            .env("HOME", self.dir.path())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(output.stdout == b"t\n")
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The same of replbench.
    async fn ours(&self, conninfo: &str) -> Result<bool, String> {
        let (endpoint, session) = self.locate(conninfo).await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let encrypted = session.client().query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(endpoint.tls.is_some(), encrypted);
        session.close().await;
        Ok(encrypted)
    }

    async fn locate(&self, conninfo: &str) -> Result<(Endpoint, pg::Session), String> {
        let here = Here(BTreeMap::from([("PGPASSWORD", self.password().to_owned())]));
        let parsed = conninfo
            .parse::<Conninfo>()
            .map_err(|error| error.to_string())?;
        let parameters = parsed.complete(&here).map_err(|error| error.to_string())?;
        locate("primary", &parameters, "test")
            .await
            .map_err(|error| error.to_string())
    }
}

const TEN_SECONDS: Duration = Duration::from_secs(10);

struct Here(BTreeMap<&'static str, String>);

impl Surroundings for Here {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn user(&self) -> Option<String> {
        None
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

fn issue(server: &Server, name: &str, by: &Issuer<'_, KeyPair>, host: &str, ends: i32) -> Files {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(ends, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    (
        server.write(&format!("{name}.crt"), &certificate.pem()),
        server.write(&format!("{name}.key"), &key.serialize_pem()),
    )
}

#[tokio::test]
async fn every_sslmode_accepts_and_refuses_what_psql_does() {
    let server = Server::start().await;
    let (root, own) = authority("own");
    let (_, stranger) = authority("stranger");
    let root = server.write("root.crt", &root);
    let mut self_signed = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    self_signed.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = self_signed.self_signed(&key).unwrap().pem();
    let of_itself = (
        server.write("self.crt", &certificate),
        server.write("self.key", &key.serialize_pem()),
    );
    let cases = [
        ("none", None, &root),
        (
            "good",
            Some(issue(&server, "good", &own, "127.0.0.1", 2100)),
            &root,
        ),
        (
            "wrong name",
            Some(issue(&server, "name", &own, "other.example", 2100)),
            &root,
        ),
        (
            "unknown CA",
            Some(issue(&server, "unknown", &stranger, "127.0.0.1", 2100)),
            &root,
        ),
        (
            "expired",
            Some(issue(&server, "expired", &own, "127.0.0.1", 2021)),
            &root,
        ),
        ("its own root", Some(of_itself.clone()), &of_itself.0),
    ];
    let mut seen = BTreeMap::new();
    for (what, files, root) in &cases {
        server.use_certificate(files.as_ref()).await;
        for with_root in [false, true] {
            for mode in MODES {
                let named = if with_root {
                    format!(" sslrootcert={}", root.display())
                } else {
                    String::new()
                };
                let conninfo = server.conninfo(&format!("sslmode={mode}{named}"));
                let (psql, ours) = (server.psql(&conninfo), server.ours(&conninfo).await);
                let both =
                    format!("{what}, {mode}, root {with_root}: psql {psql:?}, replbench {ours:?}");
                assert_eq!(psql.as_ref().ok(), ours.as_ref().ok(), "{both}");
                if let Err(said) = &ours {
                    assert!(!said.contains(server.password()), "{said}");
                }
                *seen.entry(ours.ok()).or_insert(0) += 1;
            }
        }
    }
    // Refused, in clear text and encrypted: a comparison in which one of them never came would say little.
    assert_eq!(seen.len(), 3, "{seen:?}");
    server.cluster.stop().await.unwrap();
}

#[tokio::test]
async fn channel_binding_asks_for_what_psql_asks_for() {
    let server = Server::start().await;
    let (_, own) = authority("own");
    server
        .use_certificate(Some(&issue(&server, "good", &own, "127.0.0.1", 2100)))
        .await;
    let mut accepted = Vec::new();
    for mode in ["disable", "require"] {
        for binding in ["disable", "prefer", "require"] {
            let conninfo = server.conninfo(&format!("sslmode={mode} channel_binding={binding}"));
            let (psql, ours) = (server.psql(&conninfo), server.ours(&conninfo).await);
            let both = format!("{mode}, {binding}: psql {psql:?}, replbench {ours:?}");
            assert_eq!(psql.as_ref().ok(), ours.as_ref().ok(), "{both}");
            accepted.extend(ours.is_ok().then_some((mode, binding)));
        }
    }
    let refused = ("disable", "require");
    assert!(
        accepted.len() == 5 && !accepted.contains(&refused),
        "{accepted:?}"
    );
    server.cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_client_takes_those_that_psql_may_use() {
    let server = Server::start().await;
    let (root, own) = authority("own");
    let (_, stranger) = authority("stranger");
    let root = server.write("root.crt", &root);
    let hba = server.dir.path().join("c/primary/data/pg_hba.conf");
    let lines = fs::read_to_string(&hba).unwrap();
    let wants = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n";
    // In place, so that it stays the server's file.
    fs::write(&hba, format!("{wants}{lines}")).unwrap();
    let session = pg::connect(server.endpoint(), "test", None, TEN_SECONDS)
        .await
        .unwrap();
    let trusts = format!(
        "ALTER SYSTEM SET ssl_ca_file = {}",
        pg::quote_literal(root.to_str().unwrap())
    );
    session.client().batch_execute(&trusts).await.unwrap();
    session.close().await;
    server
        .use_certificate(Some(&issue(&server, "server", &own, "127.0.0.1", 2100)))
        .await;
    let good = issue(&server, "client", &own, "somebody", 2100);
    let unknown = issue(&server, "unknown", &stranger, "somebody", 2100);
    let expired = issue(&server, "expired", &own, "somebody", 2021);
    let readable = issue(&server, "readable", &own, "somebody", 2100);
    fs::set_permissions(&readable.1, fs::Permissions::from_mode(0o644)).unwrap();
    let mut accepted = Vec::new();
    for (what, files) in [
        ("none", None),
        ("good", Some(&good)),
        ("of an unknown CA", Some(&unknown)),
        ("expired", Some(&expired)),
        ("a key that all may read", Some(&readable)),
        ("another's key", Some(&(good.0.clone(), unknown.1.clone()))),
    ] {
        let given = files.map_or_else(String::new, |(certificate, key)| {
            format!(
                " sslcert={} sslkey={}",
                certificate.display(),
                key.display()
            )
        });
        let conninfo = server.conninfo(&format!("sslmode=require{given}"));
        let (psql, ours) = (server.psql(&conninfo), server.ours(&conninfo).await);
        let both = format!("{what}: psql {psql:?}, replbench {ours:?}");
        assert_eq!(psql.as_ref().ok(), ours.as_ref().ok(), "{both}");
        accepted.extend(ours.is_ok().then_some(what));
    }
    assert_eq!(accepted, ["good"]);
    server.cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_load_is_the_same_over_tls_by_either_client() {
    let server = Server::start().await;
    let (root, own) = authority("own");
    let root = server.write("root.crt", &root);
    let files = issue(&server, "good", &own, "127.0.0.1", 2100);
    server.use_certificate(Some(&files)).await;
    let rest = format!(
        "sslmode=verify-full channel_binding=require sslrootcert={}",
        root.display()
    );
    let (encrypted, session) = server.locate(&server.conninfo(&rest)).await.unwrap();
    for client in Client::ALL {
        let overrides = Overrides {
            modes: Some(vec!["async".parse().unwrap()]),
            rate: Some(Pace::At(Rate::per_second(200.0).unwrap())),
            measure: Some(Length::Count(200)),
            warmup: Some(Duration::ZERO),
            connections: Some(4),
            client: Some(client),
            repeats: Some(1),
            seed: Some(7),
            ..Overrides::default()
        };
        let plan = resolve(&Profile::load("users-insert").unwrap(), &overrides).unwrap();
        let mut told = Vec::new();
        for endpoint in [server.endpoint(), &encrypted] {
            told.push(offer(&session, &plan, endpoint).await);
        }
        let [(clear, _), (over_tls, sessions)] = told.try_into().unwrap();
        assert_eq!(over_tls, clear, "{client}");
        assert_eq!(over_tls.acknowledged(), 200, "{client}: {over_tls:?}");
        // Every session of the load was encrypted, and there were as many as connections.
        assert_eq!(sessions, (4, 4), "{client}");
    }
    session.close().await;
    server.cluster.stop().await.unwrap();
}

/// Runs a plan's one cell; the outcomes, and of the sessions of the load how many there were and how many were encrypted.
async fn offer(admin: &pg::Session, plan: &Plan, endpoint: &Endpoint) -> (Outcomes, (i64, i64)) {
    for table in &plan.tables {
        let drop = format!("DROP TABLE IF EXISTS {}", table.qualified());
        admin.client().batch_execute(&drop).await.unwrap();
        admin.client().batch_execute(&table.ddl).await.unwrap();
    }
    for (statement, _) in workload::reset(plan) {
        admin.client().batch_execute(&statement).await.unwrap();
    }
    let mut load = Load::open(plan, &plan.cells[0], endpoint.clone(), [], None)
        .await
        .unwrap();
    let sql = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl \
               JOIN pg_stat_activity USING (pid) WHERE application_name = 'replbench load'";
    let row = admin.client().query_one(sql, &[]).await.unwrap();
    load.start(Timeline::new(
        clock::now() + Duration::from_millis(20),
        Duration::ZERO,
    ));
    let mut outcomes = Outcomes::default();
    while let Some(second) = load.next_second().await {
        outcomes.add(&second.all);
    }
    load.join().unwrap();
    (outcomes, (row.get(0), row.get(1)))
}
