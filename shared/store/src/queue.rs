//! The queue, as operators see it.

use chrono::{DateTime, Utc};

use crate::Scope;
use crate::counts::{COUNTED, Counts};
use crate::database::Database;
use relaytrace_domain::{
    ActedFor, Actor, ActorKind, AgentId, AssignedTo, Cause, Claim, DeliveryState, Execution, Outcome, Priority,
    RequestId, Result, Status, Timestamp,
};

/// Where a filter is given, at most so many rows are looked through from where the page starts: of each status and
/// priority asked for, or of all decisions. No index finds a part of a text; one that did would cost every submission.
const LOOKED_THROUGH: i64 = 20_000;

/// Of these rows, a search reads the arguments in so many bytes of envelopes: some 2,000 to 4,000 of usual ones.
const BYTES_LOOKED_THROUGH: i64 = 2 << 20;

/// One line of the queue.
#[derive(Clone, Debug)]
pub struct QueueItem {
    /// The request.
    pub request_id: RequestId,
    /// The operator who asks.
    pub agent_id: AgentId,
    /// One line.
    pub title: String,
    /// How urgent.
    pub priority: Priority,
    /// Pending or decided.
    pub status: Status,
    /// Type of the action.
    pub action_type: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Until when an answer counts.
    pub respond_by: DateTime<Utc>,
    /// When it was escalated.
    pub escalated_at: Option<DateTime<Utc>>,
    /// The agent's own name of the requests that it belongs with.
    pub group: Option<String>,
    /// The outcome.
    pub outcome: Option<Outcome>,
    /// Why.
    pub cause: Option<Cause>,
    /// When.
    pub decided_at: Option<DateTime<Utc>>,
    /// By whom.
    pub decided_by: Option<Actor>,
    /// Where the decision is on its way.
    pub delivery_state: Option<DeliveryState>,
    /// What the agent reported, where the delivery ended as a dead letter.
    pub delivery_error: Option<ReportedError>,
    /// What became of an approval.
    pub execution: Execution,
    /// Who may decide it; `None`: everyone of the tenant.
    pub assigned_to: Option<AssignedTo>,
    /// Who says to be at it.
    pub claim: Option<Claim>,
}

/// What an agent said of a decision that it could not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedError {
    /// For programs.
    pub code: Option<String>,
    /// For people.
    pub message: Option<String>,
}

impl ReportedError {
    /// An error counts while its delivery is a dead letter: a later attempt is not to blame for it.
    pub(crate) fn of(
        state: Option<DeliveryState>,
        result: Option<&str>,
        code: Option<String>,
        message: Option<String>,
    ) -> Option<Self> {
        let is_reported = result == Some("failed") || code.is_some() || message.is_some();
        (state == Some(DeliveryState::DeadLettered) && is_reported).then_some(Self { code, message })
    }
}

/// Position in the queue: the last item seen. Each order has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuePosition {
    /// Sorted by priority, then by deadline.
    Queued {
        /// Its priority.
        priority: Priority,
        /// Its deadline.
        respond_by: DateTime<Utc>,
        /// Itself.
        request_id: RequestId,
    },
    /// Sorted by decision, the newest first.
    Decided {
        /// When it was decided.
        decided_at: DateTime<Utc>,
        /// Itself.
        request_id: RequestId,
    },
}

/// An operator whom requests may be assigned to.
#[derive(Clone, Debug)]
pub struct Assignee {
    /// The operator's id.
    pub id: String,
    /// The operator's groups.
    pub groups: Vec<String>,
}

/// Which requests are meant; an empty list admits all.
#[derive(Clone, Debug, Default)]
pub struct QueueFilter {
    /// Of these priorities.
    pub priorities: Vec<Priority>,
    /// Of these agents.
    pub agent_ids: Vec<AgentId>,
    /// With these types of action.
    pub action_types: Vec<String>,
    /// Decided like this.
    pub outcomes: Vec<Outcome>,
    /// Decided by one of these ids.
    pub decided_by: Vec<String>,
    /// With a decision that is there on its way.
    pub delivery_states: Vec<DeliveryState>,
    /// Of these groups.
    pub groups: Vec<String>,
    /// Assigned to this operator, by id or by group, and not to everyone.
    pub assigned_to: Option<Assignee>,
    /// Decided, or else submitted, not before this.
    pub from: Option<DateTime<Utc>>,
    /// Decided, or else submitted, before this.
    pub to: Option<DateTime<Utc>>,
    /// Words that are all in the title, the type, an id or the arguments.
    pub words: Vec<String>,
}

/// What of the queue is asked for.
#[derive(Clone, Debug)]
pub struct QueueOrder<'a> {
    /// Pending, decided or both. Decided requests alone are sorted by decision, the newest first.
    pub statuses: &'a [Status],
    /// Which of them.
    pub filter: &'a QueueFilter,
    /// What comes after it.
    pub after: Option<QueuePosition>,
    /// At most so many.
    pub limit: i64,
}

/// One page of the queue, in its order: priority, then deadline.
#[derive(Clone, Debug)]
pub struct QueuePage {
    /// The items.
    pub items: Vec<QueueItem>,
    /// More follow after the last of them.
    pub has_more: bool,
    /// Counts of all pending requests, independent of the filter.
    pub counts: Counts,
}

impl Database {
    /// A page of the queue, with the counts of pending requests.
    pub async fn queue(&self, scope: &Scope, order: &QueueOrder<'_>) -> Result<QueuePage> {
        let counts = self.pending_counts(scope).await?;
        let rows = match order.statuses {
            [Status::Decided] => self.decided_rows(scope, order).await?,
            _ => self.queued_rows(scope, order).await?,
        };
        let mut items: Vec<QueueItem> = rows.into_iter().map(QueueItem::from).collect();
        let limit = usize::try_from(order.limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        Ok(QueuePage { items, has_more, counts })
    }

    async fn queued_rows(&self, scope: &Scope, order: &QueueOrder<'_>) -> Result<Vec<QueueRow>> {
        let filter = order.filter;
        let after = order.after.and_then(|after| match after {
            QueuePosition::Queued { priority, respond_by, request_id } => {
                Some((priority as i16, respond_by, request_id.0))
            }
            QueuePosition::Decided { .. } => None,
        });
        let (priorities, patterns, now) = (filter.priorities(), filter.patterns(), self.clock().for_database());
        let assignee = filter.assigned_to.as_ref();
        let (wanted, looked_through) = filter.bounds(order.limit, false);
        self.all(|| {
            sqlx::query_file_as!(
                QueueRow,
                "sql/queue.sql",
                order.statuses as &[Status],
                &priorities,
                after.map(|after| after.0),
                after.map(|after| after.1),
                after.map(|after| after.2),
                wanted,
                looked_through,
                any_of(&filter.agent_ids) as Option<&[AgentId]>,
                any_of(&filter.action_types),
                any_of(&filter.outcomes) as Option<&[Outcome]>,
                any_of(&filter.decided_by),
                any_of(&filter.delivery_states) as Option<&[DeliveryState]>,
                filter.from,
                filter.to,
                patterns.as_deref(),
                BYTES_LOOKED_THROUGH,
                any_of(&filter.groups),
                assignee.map(|assignee| assignee.id.as_str()),
                assignee.map(|assignee| assignee.groups.as_slice()),
                now,
                scope.tenant.as_str(),
            )
        })
        .await
    }

    async fn decided_rows(&self, scope: &Scope, order: &QueueOrder<'_>) -> Result<Vec<QueueRow>> {
        let filter = order.filter;
        let after = order.after.and_then(|after| match after {
            QueuePosition::Decided { decided_at, request_id } => Some((decided_at, request_id.0)),
            QueuePosition::Queued { .. } => None,
        });
        let (priorities, patterns, now) = (filter.priorities(), filter.patterns(), self.clock().for_database());
        let assignee = filter.assigned_to.as_ref();
        let (wanted, looked_through) = filter.bounds(order.limit, true);
        self.all(|| {
            sqlx::query_file_as!(
                QueueRow,
                "sql/queue_decided.sql",
                after.map(|after| after.0),
                after.map(|after| after.1),
                wanted,
                looked_through,
                filter.from,
                filter.to,
                &priorities,
                any_of(&filter.agent_ids) as Option<&[AgentId]>,
                any_of(&filter.action_types),
                any_of(&filter.outcomes) as Option<&[Outcome]>,
                any_of(&filter.decided_by),
                any_of(&filter.delivery_states) as Option<&[DeliveryState]>,
                patterns.as_deref(),
                BYTES_LOOKED_THROUGH,
                any_of(&filter.groups),
                assignee.map(|assignee| assignee.id.as_str()),
                assignee.map(|assignee| assignee.groups.as_slice()),
                now,
                scope.tenant.as_str(),
            )
        })
        .await
    }

    async fn pending_counts(&self, scope: &Scope) -> Result<Counts> {
        if let Some(counts) = self.counts.known(&scope.tenant) {
            return Ok(counts);
        }
        let row = self.one(|| sqlx::query_file!("sql/pending_counts.sql", COUNTED, scope.tenant.as_str())).await?;
        let counts = Counts { pending: [row.p1, row.p2, row.p3] };
        self.counts.learn(&scope.tenant, counts);
        Ok(counts)
    }
}

/// A row of either order.
struct QueueRow {
    request_id: RequestId,
    agent_id: AgentId,
    title: String,
    priority: Priority,
    status: Status,
    action_type: String,
    created_at: DateTime<Utc>,
    respond_by: DateTime<Utc>,
    escalated_at: Option<DateTime<Utc>>,
    group_key: Option<String>,
    outcome: Option<Outcome>,
    cause: Option<Cause>,
    decided_at: Option<DateTime<Utc>>,
    decided_by_kind: Option<ActorKind>,
    decided_by_id: Option<String>,
    decided_by_name: Option<String>,
    decided_for: Option<String>,
    decided_for_name: Option<String>,
    assigned_groups: Option<Vec<String>>,
    assigned_operators: Option<Vec<String>>,
    claimed_by: Option<String>,
    claimed_by_name: Option<String>,
    claimed_until: Option<DateTime<Utc>>,
    delivery_state: Option<DeliveryState>,
    delivery_result: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    execution: Execution,
}

impl From<QueueRow> for QueueItem {
    fn from(row: QueueRow) -> Self {
        let result = row.delivery_result.as_deref();
        Self {
            request_id: row.request_id,
            agent_id: row.agent_id,
            title: row.title,
            priority: row.priority,
            status: row.status,
            action_type: row.action_type,
            created_at: row.created_at,
            respond_by: row.respond_by,
            escalated_at: row.escalated_at,
            group: row.group_key,
            outcome: row.outcome,
            cause: row.cause,
            decided_at: row.decided_at,
            decided_by: row.decided_by_kind.zip(row.decided_by_id).map(|(kind, id)| Actor {
                kind,
                id,
                name: row.decided_by_name,
                acts_for: row.decided_for.map(|id| ActedFor { id, name: row.decided_for_name }),
            }),
            assigned_to: AssignedTo::stored(row.assigned_groups, row.assigned_operators),
            claim: Claim::stored(row.claimed_by, row.claimed_by_name, row.claimed_until.map(Timestamp)),
            delivery_state: row.delivery_state,
            delivery_error: ReportedError::of(row.delivery_state, result, row.error_code, row.error_message),
            execution: row.execution,
        }
    }
}

/// A filter's list as a parameter.
fn any_of<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

impl QueueFilter {
    fn priorities(&self) -> Vec<i16> {
        let all = [Priority::P1, Priority::P2, Priority::P3];
        let wanted = all.into_iter().filter(|one| self.priorities.is_empty() || self.priorities.contains(one));
        wanted.map(|priority| priority as i16).collect()
    }

    /// The words as patterns, the longest first: it fails first.
    fn patterns(&self) -> Option<Vec<String>> {
        let mut words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        words.dedup();
        let escaped = words.iter().map(|word| word.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        let patterns: Vec<String> = escaped.map(|word| format!("%{word}%")).collect();
        (!patterns.is_empty()).then_some(patterns)
    }

    /// How many rows are wanted, the one that says that more follow included, and how many are looked through for them.
    fn bounds(&self, limit: i64, is_by_decision: bool) -> (i64, i64) {
        // What an order's index answers by itself is no search.
        let is_indexed = if is_by_decision {
            self.priorities.is_empty()
        } else {
            self.outcomes.is_empty() && self.from.is_none() && self.to.is_none()
        };
        let is_plain = is_indexed
            && self.agent_ids.is_empty()
            && self.action_types.is_empty()
            && self.outcomes.is_empty()
            && self.decided_by.is_empty()
            && self.delivery_states.is_empty()
            && self.groups.is_empty()
            && self.assigned_to.is_none()
            && self.words.is_empty();
        (limit + 1, if is_plain { limit + 1 } else { LOOKED_THROUGH })
    }
}
