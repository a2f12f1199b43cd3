//! The only schema that replbench has on an existing server. Its comment has a mark that it is replbench's, and says what else was changed
//! on the server.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::ask;
use crate::cluster::error::ExistingError;
use crate::pg::{Failure, Session, attach, provisioning};

/// The first line of the schema's comment. Only a schema with this mark is ever removed.
pub(super) const MARK: &str = "made by replbench; it may be dropped with all that is in it";
/// The name of the publication of the tables.
pub(super) const PUBLICATION: &str = "replbench";

/// Changes on a server outside the schema. They are recorded in the second line of the schema's comment before they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changes {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) subscriptions: Vec<String>,
    /// Slots on this server that belong to subscriptions on other servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) slots: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) standby_names: Option<StandbyNames>,
}

/// The earlier value of `synchronous_standby_names` in postgresql.auto.conf; `None` if ALTER SYSTEM had not set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StandbyNames {
    pub(super) written: Option<String>,
}

impl Changes {
    fn to_comment(&self) -> String {
        // Serialising names cannot fail.
        let line = serde_json::to_string(self).unwrap_or_default();
        format!("{MARK}\n{line}")
    }

    /// Parses a schema's comment; `None` if the schema is not replbench's.
    fn of_comment(comment: &str) -> Option<Self> {
        let rest = comment.strip_prefix(MARK)?;
        Some(serde_json::from_str(rest.trim()).unwrap_or_default())
    }
}

/// A schema of replbench's. While this value lives, no other replbench uses the database.
#[derive(Debug)]
pub(super) struct Marked {
    node: String,
    pub(super) session: Session,
    schema: String,
    changes: Changes,
}

impl Marked {
    /// Locks the database for this process, and removes what a killed run left there. Does not create the schema yet. If a schema of the
    /// killed run was found, also returns the changes recorded in it.
    pub(super) async fn own(
        node: &str,
        session: Session,
        schema: &str,
    ) -> Result<(Self, Option<Changes>), ExistingError> {
        let mut this = Self {
            node: node.to_owned(),
            session,
            schema: schema.to_owned(),
            changes: Changes::default(),
        };
        let locked = this.ask("lock the database for this run", attach::lock);
        if !locked.await? {
            return Err(ExistingError::Unfit(format!(
                "another replbench uses the database on `{node}`; wait until it ends"
            )));
        }
        let comment = this.ask("look for a schema", async |client| {
            attach::schema_comment(client, schema).await
        });
        let Some(comment) = comment.await? else {
            return Ok((this, None));
        };
        let Some(changes) = Changes::of_comment(&comment) else {
            return Err(ExistingError::Unfit(format!(
                "schema `{schema}` exists and is not replbench's; rename it, or use another database"
            )));
        };
        this.changes = changes.clone();
        this.remove().await?;
        Ok((this, Some(changes)))
    }

    pub(super) async fn create(&self) -> Result<(), ExistingError> {
        let create = attach::create_schema(&self.schema, &self.changes.to_comment());
        self.run("make a schema", &create).await
    }

    /// Records a change in the schema's comment. To be called before the change is made outside the schema.
    pub(super) async fn note(
        &mut self,
        change: impl FnOnce(&mut Changes),
    ) -> Result<(), ExistingError> {
        change(&mut self.changes);
        let comment = attach::comment_schema(&self.schema, &self.changes.to_comment());
        self.run("note what is changed", &comment).await
    }

    /// Makes sure that no slot or subscription has one of these names, so that a slot or subscription that is removed later is replbench's.
    pub(super) async fn are_free(&self, names: &[String]) -> Result<(), ExistingError> {
        let taken = self.ask("look for slots and subscriptions", async |client| {
            attach::taken(client, names).await
        });
        match taken.await? {
            None => Ok(()),
            Some(name) => Err(ExistingError::Unfit(format!(
                "`{}` has a slot or a subscription of the name `{name}`; write NAME=CONNINFO with another name",
                self.node
            ))),
        }
    }

    pub(super) async fn publish(&self, tables: &[String]) -> Result<(), ExistingError> {
        let create = attach::create_publication(PUBLICATION, MARK, tables);
        self.run("publish the tables", &create).await
    }

    pub(super) async fn subscribe(&self, conninfo: &str) -> Result<(), ExistingError> {
        let create = provisioning::subscription(&self.node, conninfo, PUBLICATION);
        self.run("subscribe to the tables", &create).await
    }

    pub(super) async fn set_standby_names(&self, names: Option<&str>) -> Result<(), ExistingError> {
        self.ask("set synchronous_standby_names", async |client| {
            provisioning::set_for_server(client, &[("synchronous_standby_names", names)]).await
        })
        .await
    }

    /// Undoes all recorded changes, and removes the publication and the schema.
    pub(super) async fn remove(&mut self) -> Result<(), ExistingError> {
        let changes = std::mem::take(&mut self.changes);
        self.ask("remove the subscription", async |client| {
            for name in &changes.subscriptions {
                attach::drop_subscription(client, name).await?;
            }
            Ok(())
        })
        .await?;
        // A slot remains if its subscriber is gone, or if creating the subscription was never finished.
        let dropped = self.ask("remove the slots", async |client| {
            attach::drop_slots(client, &changes.slots).await
        });
        match dropped.await {
            Err(ExistingError::Query { failure, .. })
                if failure.sqlstate.as_ref() == Some(&SqlState::OBJECT_IN_USE) =>
            {
                return Err(ExistingError::Unfit(format!(
                    "a slot of a killed run is still in use on the primary ({}): its subscriber is to be cleaned first; run `replbench clean --primary ... --subscriber ...`",
                    changes.slots.join(", ")
                )));
            }
            dropped => dropped?,
        }
        if let Some(StandbyNames { written }) = &changes.standby_names {
            self.set_standby_names(written.as_deref()).await?;
        }
        self.ask("remove the publication", async |client| {
            attach::drop_publication(client, PUBLICATION, MARK).await
        })
        .await?;
        let drop = attach::drop_schema(&self.schema);
        self.run("remove the schema", &drop).await
    }

    /// Ends the session, which also unlocks the database.
    pub(super) async fn close(self) {
        self.session.close().await;
    }

    /// Queries the server in the session that holds the lock. `action` says what the query is for, in an error.
    pub(super) async fn ask<T>(
        &self,
        action: &'static str,
        question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, ExistingError> {
        ask(&self.node, &self.session, action, question).await
    }

    async fn run(&self, action: &'static str, statement: &str) -> Result<(), ExistingError> {
        self.ask(action, async |client| {
            provisioning::execute(client, statement).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, MARK, StandbyNames};

    #[test]
    fn what_is_noted_in_a_comment_is_read_back_and_other_comments_are_not_replbench_s() {
        let written = Some("ANY 1 (\"a\", b)".to_owned());
        for changes in [
            Changes::default(),
            Changes {
                subscriptions: vec!["sub1".into()],
                slots: vec!["sub2".into()],
                standby_names: Some(StandbyNames { written: None }),
            },
            Changes {
                standby_names: Some(StandbyNames { written }),
                ..Changes::default()
            },
        ] {
            assert_eq!(Changes::of_comment(&changes.to_comment()), Some(changes));
        }
        assert_eq!(Changes::of_comment(MARK), Some(Changes::default()));
        assert_eq!(Changes::of_comment("mine"), None);
        assert_eq!(Changes::of_comment(""), None);
    }
}
