//! The one schema that replbench has on a server of somebody else's: it bears a mark, and says what else was changed there.

use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use crate::cluster::error::ExistingError;
use crate::pg::{Failure, Session, attach, provisioning};

/// The first line of the schema's comment: only what bears it is ever removed.
pub(super) const MARK: &str = "made by replbench; it may be dropped with all that is in it";
/// What the tables are published as.
pub(super) const PUBLICATION: &str = "replbench";

/// What was changed on a server outside the schema: the second line of its comment, written before the change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changes {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) subscriptions: Vec<String>,
    /// Of subscriptions on other servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) slots: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) standby_names: Option<StandbyNames>,
}

/// What ALTER SYSTEM said of `synchronous_standby_names` before; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StandbyNames {
    pub(super) written: Option<String>,
}

impl Changes {
    fn to_comment(&self) -> String {
        // Names cannot fail to be written.
        let line = serde_json::to_string(self).unwrap_or_default();
        format!("{MARK}\n{line}")
    }

    /// `None`: the schema of that comment is not replbench's.
    fn of_comment(comment: &str) -> Option<Self> {
        let rest = comment.strip_prefix(MARK)?;
        Some(serde_json::from_str(rest.trim()).unwrap_or_default())
    }
}

/// A schema of replbench's. As long as it lives, no other replbench uses the database.
#[derive(Debug)]
pub(super) struct Marked {
    node: String,
    pub(super) session: Session,
    schema: String,
    changes: Changes,
}

impl Marked {
    /// Takes the database for this process, and removes what a killed one left there. The schema is yet to be made.
    /// The second: what that one had changed, if it left something.
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
        let locked = attach::lock(this.session.client()).await;
        if !locked.map_err(|failure| this.failed("lock the database for this run", failure))? {
            return Err(ExistingError::InUse(node.to_owned()));
        }
        let comment = attach::schema_comment(this.session.client(), schema).await;
        let comment = comment.map_err(|failure| this.failed("look for a schema", failure))?;
        let Some(comment) = comment else {
            return Ok((this, None));
        };
        let changes = Changes::of_comment(&comment);
        let changes = changes.ok_or_else(|| ExistingError::Foreign(schema.to_owned()))?;
        this.changes = changes.clone();
        this.remove().await?;
        Ok((this, Some(changes)))
    }

    pub(super) async fn create(&self) -> Result<(), ExistingError> {
        let create = attach::create_schema(&self.schema, &self.changes.to_comment());
        let created = provisioning::execute(self.session.client(), &create).await;
        created.map_err(|failure| self.failed("make a schema", failure))
    }

    /// Writes down what is about to be changed outside the schema.
    pub(super) async fn note(
        &mut self,
        change: impl FnOnce(&mut Changes),
    ) -> Result<(), ExistingError> {
        change(&mut self.changes);
        let comment = attach::comment_schema(&self.schema, &self.changes.to_comment());
        let written = provisioning::execute(self.session.client(), &comment).await;
        written.map_err(|failure| self.failed("note what is changed", failure))
    }

    /// Makes sure that nobody has a slot or a subscription of such a name, so that what is removed later is replbench's.
    pub(super) async fn are_free(&self, names: &[String]) -> Result<(), ExistingError> {
        let taken = attach::taken(self.session.client(), names).await;
        match taken.map_err(|failure| self.failed("look for slots and subscriptions", failure))? {
            None => Ok(()),
            Some(name) => Err(ExistingError::Taken {
                node: self.node.clone(),
                name,
            }),
        }
    }

    pub(super) async fn publish(&self, tables: &[String]) -> Result<(), ExistingError> {
        let create = attach::create_publication(PUBLICATION, MARK, tables);
        let published = provisioning::execute(self.session.client(), &create).await;
        published.map_err(|failure| self.failed("publish the tables", failure))
    }

    pub(super) async fn subscribe(&self, conninfo: &str) -> Result<(), ExistingError> {
        let client = self.session.client();
        let subscribed =
            provisioning::create_subscription(client, &self.node, conninfo, PUBLICATION).await;
        subscribed.map_err(|failure| self.failed("subscribe to the tables", failure))
    }

    pub(super) async fn set_standby_names(&self, names: Option<&str>) -> Result<(), ExistingError> {
        let setting = ("synchronous_standby_names", names);
        let set = provisioning::set_for_server(self.session.client(), &[setting]).await;
        set.map_err(|failure| self.failed("set synchronous_standby_names", failure))
    }

    /// Puts back what was changed, and removes what was made.
    pub(super) async fn remove(&mut self) -> Result<(), ExistingError> {
        let changes = std::mem::take(&mut self.changes);
        let this = &*self;
        let client = this.session.client();
        let failed = |action| move |failure| this.failed(action, failure);
        for name in &changes.subscriptions {
            let dropped = attach::drop_subscription(client, name).await;
            dropped.map_err(failed("remove the subscription"))?;
        }
        // Of a subscriber that is gone, or whose subscription was never finished.
        let dropped = attach::drop_slots(client, &changes.slots).await;
        dropped.map_err(|failure| {
            if failure.sqlstate.as_ref() == Some(&SqlState::OBJECT_IN_USE) {
                return ExistingError::SlotInUse(changes.slots.join(", "));
            }
            this.failed("remove the slots", failure)
        })?;
        if let Some(StandbyNames { written }) = &changes.standby_names {
            self.set_standby_names(written.as_deref()).await?;
        }
        let dropped = attach::drop_publication(client, PUBLICATION, MARK).await;
        dropped.map_err(failed("remove the publication"))?;
        let dropped = provisioning::execute(client, &attach::drop_schema(&self.schema)).await;
        dropped.map_err(failed("remove the schema"))
    }

    /// Ends the session, and with it the claim on the database.
    pub(super) async fn close(self) {
        self.session.close().await;
    }

    fn failed(&self, action: &'static str, failure: Failure) -> ExistingError {
        ExistingError::Query {
            node: self.node.clone(),
            action,
            failure,
        }
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
