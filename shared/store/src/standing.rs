//! Why a request was not decided: how it stands, and what of that is an answer.

use chrono::{DateTime, Utc};
use relaytrace_domain::{
    ActedFor, Actor, ActorKind, Answer, Answers, Approvals, Cause, Decision, Digest, Error, JsonText, Outcome,
    RequestId, Result, TenantId, Timestamp, VoteEntry, Voted, Written,
};

use crate::chain::digest;
use crate::database::Database;
use crate::decisions::{Authority, Decided, Deciding};

/// How a decision that was not made finds its request.
#[derive(Debug)]
pub(crate) enum Stands {
    /// The same was decided before, or its last approval followed this one.
    Decided(Box<Decision>),
    /// The same approval was given before, and the request needs others.
    Voted(Voted),
    /// The request needs more approvals than this one.
    NeedsVotes,
}

/// How a request stands that could not be decided.
pub(crate) struct Standing {
    pub(crate) request_id: RequestId,
    pub(crate) action_digest: Digest,
    is_frozen: bool,
    now: DateTime<Utc>,
    respond_by: DateTime<Utc>,
    answers: Answers,
    /// The operator is the person for whom the agent acts.
    is_own: bool,
    /// The operator is one of those it is assigned to, or acts for one.
    may_decide: bool,
    pub(crate) approvals: Approvals,
    /// Those who have voted or were acted for.
    voters: Vec<String>,
    votes: Vec<VoteEntry>,
    decision: Option<Decision>,
}

impl Standing {
    /// What it means for this decision, in the order in which a decision is refused (contract, "Decision").
    pub(crate) fn against(self, deciding: &Deciding) -> Result<Stands> {
        let (actor, is_approval) = (deciding.by.actor(), deciding.is_approval());
        let is_operators = matches!(deciding.by, Authority::Operator(_));
        let saw = deciding.action_digest;
        let is_vote = is_operators && is_approval && deciding.written.is_none() && self.approvals.are_several();
        let is_repeated_vote = is_vote && self.has_vote(&actor, deciding.reason.as_deref());
        match self.decision {
            Some(decision) if is_repeated_vote || deciding.is_repeated_by(&decision) => {
                Ok(Stands::Decided(Box::new(decision)))
            }
            Some(decision) => Err(Error::AlreadyDecided(Box::new(decision))),
            None if is_repeated_vote && saw == Some(self.action_digest) => Ok(Stands::Voted(self.voted())),
            None if is_operators && self.now >= self.respond_by => {
                Err(Error::Expired { respond_by: Timestamp(self.respond_by) })
            }
            None if is_vote && saw.is_none() => {
                Err(Error::invalid("/action_digest", "is required where more than one approval is"))
            }
            None if saw.is_some_and(|digest| digest != self.action_digest) => Err(Error::ActionMismatch),
            None if deciding.answer().is_some_and(|answer| !self.answers.has(answer)) => {
                Err(Error::invalid("/decision", "is not among the answers that the agent can take"))
            }
            None if is_operators && deciding.written.is_some() && self.approvals.are_several() => {
                Err(Error::Conflict("more than one approval is required: approve as it is, or reject"))
            }
            None if is_operators && !self.may_decide => Err(Error::NotAssigned),
            None if self.is_frozen && is_approval => Err(Error::Frozen),
            None if self.is_own && is_approval => Err(Error::OwnRequest),
            None if is_vote && deciding.by.persons().iter().any(|id| self.voters.contains(id)) => {
                Err(Error::AlreadyVoted)
            }
            None if is_vote => Ok(Stands::NeedsVotes),
            None => Err(Error::Unavailable(anyhow::anyhow!("the decision was not applied and no reason was found"))),
        }
    }

    /// Whether this operator has approved in these words.
    fn has_vote(&self, actor: &Actor, reason: Option<&str>) -> bool {
        self.votes.iter().any(|vote| vote.actor.is(actor) && vote.reason.as_deref() == reason)
    }

    fn voted(&self) -> Voted {
        Voted::pending(self.request_id, self.approvals, self.action_digest)
    }
}

impl Database {
    /// Why a decision is not made: the same was made before, or the error that it is.
    ///
    /// # Errors
    /// [`Error::AlreadyDecided`], [`Error::Expired`] and so on; [`Error::Unavailable`] where nothing stands against it.
    pub async fn decided_before(&self, deciding: &Deciding) -> Result<Decided> {
        if let Authority::Agent(caller) = &deciding.by {
            // Only its own agent may learn how it stands; this refuses revoked keys and foreign requests.
            self.request_alone(caller, deciding.request_id).await?;
        }
        let standing = self.standing(&deciding.by, &[deciding.request_id]).await?.pop().ok_or(Error::NotFound)?;
        match standing.against(deciding)? {
            Stands::Decided(decision) => Ok(Decided { decision: *decision, event: None, leased: None }),
            Stands::Voted(_) | Stands::NeedsVotes => {
                Err(Error::Unavailable(anyhow::anyhow!("a decision without votes met a request that takes them")))
            }
        }
    }

    /// How these requests stand; those that are not there are left out.
    pub(crate) async fn standing(&self, by: &Authority, request_ids: &[RequestId]) -> Result<Vec<Standing>> {
        let ids: Vec<_> = request_ids.iter().map(|id| id.0).collect();
        let rows = self
            .all(|| {
                sqlx::query_file!(
                    "sql/decision_standing.sql",
                    self.clock().for_database(),
                    &ids,
                    by.tenant().map(TenantId::as_str),
                    by.cause().as_str(),
                    by.person(),
                )
            })
            .await?;
        let standing = rows.into_iter().map(|row| {
            let action_digest = digest(row.action_digest)?;
            let found = FoundDecision {
                outcome: row.outcome,
                cause: row.cause,
                kind: row.decided_by_kind,
                id: row.decided_by_id,
                name: row.decided_by_name,
                acts_for: row.decided_for.map(|id| ActedFor { id, name: row.decided_for_name }),
                at: row.decided_at,
                reason: row.reason,
                approved_digest: row.approved_digest,
                edited: row.edited,
                written: Written::stored(row.written_action, row.written_response)?,
            };
            let decided = row.outcome.zip(row.decided_by_kind);
            Ok(Standing {
                request_id: row.request_id,
                is_frozen: row.is_frozen,
                is_own: row.is_own,
                may_decide: row.may_decide,
                now: row.now,
                respond_by: row.respond_by,
                action_digest,
                answers: answers(row.answers.as_deref()),
                approvals: Approvals::stored(row.approvals_required, row.approvals_given, decided)?,
                voters: row.voters.unwrap_or_default(),
                votes: VoteEntry::stored(row.votes.as_deref())?,
                decision: found.of(row.request_id, action_digest)?,
            })
        });
        standing.collect()
    }
}

/// The columns of a decision that an outer join may have found.
pub(super) struct FoundDecision {
    pub(super) outcome: Option<Outcome>,
    pub(super) cause: Option<Cause>,
    pub(super) kind: Option<ActorKind>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) acts_for: Option<ActedFor>,
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) reason: Option<String>,
    pub(super) approved_digest: Option<Vec<u8>>,
    pub(super) edited: Option<bool>,
    pub(super) written: Option<Written>,
}

impl FoundDecision {
    pub(super) fn of(self, request_id: RequestId, requested_action_digest: Digest) -> Result<Option<Decision>> {
        let (Some(kind), Some(id), Some(outcome), Some(cause), Some(at)) =
            (self.kind, self.id, self.outcome, self.cause, self.at)
        else {
            return Ok(None);
        };
        let text = |written: Option<(&JsonText, Digest)>| written.map(|(text, _)| text.clone());
        Ok(Some(Decision {
            request_id,
            outcome,
            cause,
            decided_by: Actor { kind, id, name: self.name, acts_for: self.acts_for },
            decided_at: Timestamp(at),
            reason: self.reason,
            action_digest: self.approved_digest.map_or(Ok(requested_action_digest), digest)?,
            requested_action_digest,
            edited: self.edited.unwrap_or_default(),
            action: text(self.written.as_ref().and_then(Written::action)),
            response: text(self.written.as_ref().and_then(Written::response)),
        }))
    }
}

/// The answers of a column.
fn answers(column: Option<&[String]>) -> Answers {
    let Some(names) = column else { return Answers::default() };
    let all = [Answer::Approve, Answer::Reject, Answer::Edit, Answer::Respond];
    let named: Vec<_> = all.into_iter().filter(|answer| names.iter().any(|name| name == answer.as_str())).collect();
    Answers::of(&named)
}
