//! Builds the nodes: runs initdb and base backups, starts servers, and creates the schema, publication and subscriptions.

use futures_util::future::{try_join, try_join_all, try_join3};

use super::directory;
use super::error::ClusterError;
use super::tables;
use super::workspace::Workspace;
use super::{DATABASE, PUBLICATION, RunningNode, admin, query};
use crate::clock;
use crate::pg::provisioning;
use crate::topology::{Node, Role};

/// Builds all nodes and returns when all are ready. The primary and the subscribers are made first, then the copies of the primary.
pub(super) async fn build(workspace: &Workspace) -> Result<Vec<RunningNode>, ClusterError> {
    for node in &workspace.nodes {
        directory::create_inner(&workspace.layout.node(&node.name), &workspace.account)?;
    }
    let of = |role: Role| workspace.nodes.iter().filter(move |node| node.role == role);
    let (mut nodes, subscribers) = try_join(
        try_join_all(of(Role::Primary).map(|node| init_server(workspace, node))),
        try_join_all(of(Role::Subscriber).map(|node| init_server(workspace, node))),
    )
    .await?;
    let primary = nodes[0].clone();
    let (standbys, archive, ()) = try_join3(
        copies(workspace, &primary),
        try_join_all(of(Role::ArchiveStandby).map(|node| restore(workspace, &primary, node))),
        subscribe(workspace, &primary, &subscribers),
    )
    .await?;
    nodes.extend(standbys);
    nodes.extend(archive);
    nodes.extend(subscribers);
    Ok(nodes)
}

/// Makes all standbys that stream, each as soon as its upstream is ready.
async fn copies(
    workspace: &Workspace,
    primary: &RunningNode,
) -> Result<Vec<RunningNode>, ClusterError> {
    let mut made = vec![primary.clone()];
    loop {
        let is_made = |node: &Node| made.iter().any(|it| it.node.name == node.name);
        let next = workspace.nodes.iter().filter_map(|node| {
            let is_next = node.role.streams_physically() && !is_made(node);
            let upstream = node.upstream.as_ref().filter(|_| is_next)?;
            let upstream = made.iter().find(|it| it.node.name == *upstream)?;
            Some(copy(workspace, upstream, node))
        });
        let more = try_join_all(next).await?;
        if more.is_empty() {
            return Ok(made.split_off(1));
        }
        made.extend(more);
    }
}

/// Makes a server by initdb, with the database and the schema: a primary or a subscriber.
async fn init_server(workspace: &Workspace, node: &Node) -> Result<RunningNode, ClusterError> {
    let password = workspace.layout.node(&node.name).join("initdb.pw");
    directory::write(&password, workspace.password.reveal(), &workspace.account)?;
    let mut arguments = vec![
        "-D".into(),
        workspace.layout.data(&node.name).into(),
        "--pwfile".into(),
        password.clone().into(),
        "--username=replbench".into(),
        "--auth=scram-sha-256".into(),
        "--encoding=UTF8".into(),
        "--locale=C".into(),
        // The next checkpoint syncs what matters, and a crash of the host would cost only a scratch cluster.
        "--no-sync".into(),
        "--no-instructions".into(),
    ];
    if workspace.config.topology.has(Role::ArchiveStandby) && node.role == Role::Primary {
        arguments.push("--wal-segsize=1".into());
    }
    let made = workspace.command(&node.name, "initdb", arguments).await;
    std::fs::remove_file(&password).map_err(ClusterError::io("remove", &password))?;
    made?;
    workspace.configure(node)?;
    let running = workspace.launch(node).await?;
    running
        .in_database("postgres")
        .ask("create the database", async |client| {
            provisioning::create_database(client, DATABASE).await
        })
        .await?;
    tables::create(
        &running,
        &workspace.config.schema,
        workspace.config.deadline,
    )
    .await?;
    if node.role == Role::Primary && workspace.config.topology.has(Role::Subscriber) {
        running
            .ask("create the publication", async |client| {
                let tables = &workspace.config.publish;
                provisioning::create_publication(client, PUBLICATION, tables).await
            })
            .await?;
    }
    Ok(running)
}

/// Makes a base backup of `upstream` in the node's data directory, and writes the node's configuration.
async fn back_up(
    workspace: &Workspace,
    upstream: &RunningNode,
    node: &Node,
    extra: &[&str],
) -> Result<(), ClusterError> {
    let extra = [&["--wal-method=stream"], extra].concat();
    base_backup(workspace, upstream, &node.name, &extra).await?;
    workspace.configure(node)
}

/// Makes a base backup of `upstream` in the data directory of `name`. `extra` says how the backup gets its WAL.
pub(super) async fn base_backup(
    workspace: &Workspace,
    upstream: &RunningNode,
    name: &str,
    extra: &[&str],
) -> Result<(), ClusterError> {
    let conninfo = workspace.conninfo(name, &upstream.node.name, &[("application_name", name)]);
    let mut arguments = vec![
        "-D".into(),
        workspace.layout.data(name).into(),
        "-d".into(),
        conninfo.into(),
        "--checkpoint=fast".into(),
        "--no-sync".into(),
        "--no-password".into(),
        // A manifest would only serve to detect damage, and the servers were made a second ago.
        "--no-manifest".into(),
    ];
    arguments.extend(extra.iter().map(Into::into));
    workspace.command(name, "pg_basebackup", arguments).await
}

/// Makes a standby that streams from `upstream` through its own slot.
async fn copy(
    workspace: &Workspace,
    upstream: &RunningNode,
    node: &Node,
) -> Result<RunningNode, ClusterError> {
    let slot = format!("--slot={}", node.name);
    let extra = ["--write-recovery-conf", "--create-slot", &slot];
    back_up(workspace, upstream, node, &extra).await?;
    let running = workspace.launch(node).await?;
    streaming(workspace, upstream, &running).await?;
    Ok(running)
}

/// Copies a standby again from `upstream`. Its server must have ended.
pub(super) async fn replace(
    workspace: &Workspace,
    upstream: &RunningNode,
    node: &Node,
) -> Result<RunningNode, ClusterError> {
    let data = workspace.layout.data(&node.name);
    directory::remove_all(&data).map_err(ClusterError::io("remove", &data))?;
    copy(workspace, upstream, node).await
}

/// Makes a standby that replays WAL from the archive and connects to no other server.
async fn restore(
    workspace: &Workspace,
    primary: &RunningNode,
    node: &Node,
) -> Result<RunningNode, ClusterError> {
    back_up(workspace, primary, node, &[]).await?;
    let signal = workspace.layout.data(&node.name).join("standby.signal");
    directory::write(&signal, "", &workspace.account)?;
    workspace.launch(node).await
}

/// Makes the node, a former primary that has died, a standby that streams from `upstream`. Also returns how: `pg_rewind` or
/// `a new base backup`.
pub(super) async fn rejoin(
    workspace: &Workspace,
    upstream: &RunningNode,
    node: &Node,
) -> Result<(RunningNode, &'static str), ClusterError> {
    let data = workspace.layout.data(&node.name);
    let source = workspace.conninfo(&node.name, &upstream.node.name, &[("dbname", DATABASE)]);
    let arguments = vec![
        "-D".into(),
        data.clone().into(),
        "--source-server".into(),
        source.into(),
        "--no-sync".into(),
        "--progress".into(),
    ];
    let rewound = workspace.command(&node.name, "pg_rewind", arguments);
    let by = if rewound.await.is_ok() {
        "pg_rewind"
    } else {
        // pg_rewind needs data checksums or wal_log_hints, and all WAL since the timelines diverged. The log says why it failed.
        directory::remove_all(&data).map_err(ClusterError::io("remove", &data))?;
        back_up(workspace, upstream, node, &[]).await?;
        "a new base backup"
    };
    workspace.configure(node)?;
    // pg_rewind has copied the configuration of the other node.
    let own = workspace.upstream(&upstream.node.name, &node.name).conf();
    for (name, content) in [
        ("postgresql.auto.conf", own.as_str()),
        ("standby.signal", ""),
    ] {
        directory::write(&data.join(name), content, &workspace.account)?;
    }
    let running = workspace.launch(node).await?;
    streaming(workspace, upstream, &running).await?;
    Ok((running, by))
}

/// Waits until `node` streams from `upstream`: a standby may accept connections before it replicates.
async fn streaming(
    workspace: &Workspace,
    upstream: &RunningNode,
    node: &RunningNode,
) -> Result<(), ClusterError> {
    let name = &node.node.name;
    let session = admin(&upstream.endpoint).await?;
    let deadline = workspace.config.deadline;
    let ask = async || {
        let senders = provisioning::senders(session.client())
            .await
            .map_err(query(upstream, "look for its standbys"))?;
        workspace.check(name)?;
        let streams = senders
            .iter()
            .any(|sender| sender.application_name == *name && sender.state == "streaming");
        Ok(streams
            .then_some(())
            .ok_or_else(|| "stream from its upstream".to_owned()))
    };
    clock::wait_until(deadline, ask, |missing| node.late(missing, deadline)).await?;
    session.close().await;
    Ok(())
}

/// Creates each subscriber's subscription and waits for its initial copy.
pub(super) async fn subscribe(
    workspace: &Workspace,
    primary: &RunningNode,
    subscribers: &[RunningNode],
) -> Result<(), ClusterError> {
    let one = async |subscriber: &RunningNode| {
        let session = admin(&subscriber.endpoint).await?;
        let name = &subscriber.node.name;
        let conninfo = workspace.conninfo(name, &primary.node.name, &[("dbname", DATABASE)]);
        provisioning::create_subscription(session.client(), name, &conninfo, PUBLICATION)
            .await
            .map_err(query(subscriber, "create the subscription"))?;
        let deadline = workspace.config.deadline;
        let check = || workspace.check(name);
        tables::copied(subscriber, session.client(), deadline, check).await?;
        session.close().await;
        Ok::<_, ClusterError>(())
    };
    try_join_all(subscribers.iter().map(one)).await?;
    Ok(())
}
