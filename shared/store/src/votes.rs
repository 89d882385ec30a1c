//! Votes: approvals that do not decide, because the request needs more.

use relaytrace_domain::signing::{Attestor, Ballot};
use relaytrace_domain::{AgentId, Approvals, Digest, Error, RequestId, Result, TenantId, Voted};

use crate::OutboxEvent;
use crate::batches::{Row, column, in_order};
use crate::database::Database;
use crate::decisions::Deciding;
use crate::measures::BatchKind;

/// A vote that its function has signed.
#[derive(Debug)]
pub(crate) struct Voting {
    deciding: Deciding,
    action_digest: Digest,
    /// The JSON text of the entry's member `attestation`.
    attestation: String,
}

impl Voting {
    /// An operator's approval as a vote, signed.
    ///
    /// # Errors
    /// [`Error::Internal`] where no key of this process speaks for operators, or the decision names no action.
    pub(crate) fn attested(deciding: &Deciding, attestor: &Attestor) -> Result<Self> {
        let action_digest =
            deciding.action_digest.ok_or_else(|| Error::internal(anyhow::anyhow!("a vote on nothing")))?;
        let actor = deciding.by.actor();
        let ballot = Ballot {
            request_id: deciding.request_id,
            actor: &actor,
            action_digest,
            reason: deciding.reason.as_deref(),
        };
        let attestation = attestor.attest_vote(&ballot)?;
        Ok(Self { deciding: deciding.clone(), action_digest, attestation })
    }
}

/// What the statement gives of a vote that it has noted.
struct Noted {
    request_id: RequestId,
    agent_id: AgentId,
    seq: i32,
    given: i16,
    required: i16,
    payload: Vec<u8>,
}

impl Voting {
    fn noted(&self, noted: Noted) -> Result<(Voted, OutboxEvent)> {
        let approvals = Approvals::stored(Some(noted.required), Some(noted.given), None)?;
        let event = OutboxEvent {
            request_id: self.deciding.request_id,
            seq: noted.seq,
            kind: "voted".into(),
            agent_id: noted.agent_id,
            payload: noted.payload,
            traceparent: self.deciding.traceparent.clone(),
        };
        Ok((Voted::pending(self.deciding.request_id, approvals, self.action_digest), event))
    }
}

impl Row for Voting {
    type Written = (Voted, OutboxEvent);
    type Key<'a> = RequestId;
    const KIND: BatchKind = BatchKind::Vote;

    fn key(&self) -> RequestId {
        self.deciding.request_id
    }

    fn size(&self) -> usize {
        768 + self.deciding.reason.as_ref().map_or(0, String::len)
    }

    /// The one statement of votes. Written over arrays; on Lambda they hold one, or those of one call.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Self::Written>>> {
        let json = |of: &dyn Fn(&Self) -> serde_json::Value| column(rows, |row| of(row).to_string());
        let actors = column(rows, |row| row.deciding.by.actor().in_entry().to_string());
        let noted = database
            .all(|| {
                sqlx::query_file_as!(
                    Noted,
                    "sql/vote.sql",
                    database.clock().for_database(),
                    &column(rows, |row| row.deciding.request_id.0),
                    &column(rows, |row| row.deciding.by.tenant().map(TenantId::as_str)) as &[Option<&str>],
                    &actors,
                    &json(&|row| row.deciding.by.persons().into()),
                    &json(&|row| row.deciding.by.person()),
                    &column(rows, |row| row.action_digest.0.as_slice()) as &[&[u8]],
                    &column(rows, |row| row.deciding.reason.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.deciding.traceparent.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.attestation.as_str()) as &[&str],
                )
            })
            .await?;
        let noted = in_order(rows, |row| row.deciding.request_id, noted.into_iter().map(|it| (it.request_id, it)));
        rows.iter().zip(noted).map(|(row, noted)| noted.map(|noted| row.noted(noted)).transpose()).collect()
    }
}
