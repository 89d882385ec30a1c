//! What the database holds, to be compared with the model, and faults put into it.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use sqlx::PgPool;

use crate::case::sending::{consume_key, response};
use crate::commands::Fault;
use crate::model::{AGENTS, ASKED, Micros, Model, OnTimeout, Request};

/// Everything that a fault and a comparison need, made by the owner. Fires in the first rows that a statement writes;
/// a sequence counts, because it is not rolled back.
const FAULTS: &str = "
CREATE SEQUENCE faults MINVALUE -100 START 1;
CREATE TABLE fault (sqlstate text);
INSERT INTO fault VALUES (NULL);
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    code text;
BEGIN
    IF nextval('faults') <= 0 THEN
        SELECT sqlstate INTO code FROM fault;
        IF code = '57P01' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(10);
        END IF;
        RAISE EXCEPTION 'injected' USING ERRCODE = code;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER fails BEFORE INSERT ON approval_chain FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER fails BEFORE UPDATE ON deliveries FOR EACH ROW EXECUTE FUNCTION fail();
CREATE FUNCTION micros(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN (extract(epoch FROM at) * 1000000)::bigint;
";

/// Another case starts with nothing. The test's own database: nobody else is in it.
const EMPTY: &str = "
ALTER TABLE hitl_decisions DISABLE TRIGGER hitl_decisions_append_only;
ALTER TABLE approval_chain DISABLE TRIGGER approval_chain_append_only;
ALTER TABLE decision_values DISABLE TRIGGER decision_values_append_only;
TRUNCATE hitl_requests, request_envelopes, request_dedupe, hitl_decisions, decision_values, approval_chain, deliveries,
    agent_polls, outbox, dead_letters, replays, sweep_failures, outcomes_due;
UPDATE agent_caps SET pending = 0, pending_p1 = 0;
ALTER TABLE hitl_decisions ENABLE ALWAYS TRIGGER hitl_decisions_append_only;
ALTER TABLE approval_chain ENABLE ALWAYS TRIGGER approval_chain_append_only;
ALTER TABLE decision_values ENABLE ALWAYS TRIGGER decision_values_append_only;
";

const OBSERVE: &str = "
SELECT json_build_object(
    'requests', (SELECT COALESCE(json_object_agg(r.request_id, json_build_object(
            'agent_id', r.agent_id, 'status', r.status, 'priority', r.priority, 'on_timeout', r.on_timeout,
            'created_at', micros(r.created_at), 'respond_by', micros(r.respond_by),
            'escalate_at', micros(r.escalate_at), 'escalated_at', micros(r.escalated_at),
            'changed_at', micros(r.changed_at), 'length', r.chain_length,
            'votes', json_build_array(COALESCE(r.approvals_required, 1), COALESCE(r.approvals_given, 0),
                COALESCE(r.voters, '{}'),
                (SELECT jsonb_path_query_array(r.votes, '$[*].reason'))),
            'permit', json_build_array(micros(r.permit_expires_at), r.execution, r.consume_key, micros(r.consumed_at),
                (SELECT micros(o.due_at) FROM outcomes_due o WHERE o.request_id = r.request_id)),
            'written', (SELECT json_build_array(convert_from(v.action, 'UTF8')::jsonb #>> '{arguments,amount}',
                    convert_from(v.response, 'UTF8')::jsonb #>> '{}')
                FROM decision_values v WHERE v.request_id = r.request_id),
            'chain', (SELECT json_agg(json_build_array(c.kind, micros(c.at)) ORDER BY c.seq) FROM approval_chain c
                WHERE c.request_id = r.request_id),
            'decision', (SELECT json_build_array(h.outcome, h.cause, h.decided_by_kind, h.decided_by_id, h.reason)
                FROM hitl_decisions h WHERE h.request_id = r.request_id),
            'delivery', (SELECT json_build_object('state', d.state, 'attempt', d.attempt, 'delivery_id', d.delivery_id,
                    'visible_at', micros(d.visible_at), 'expires_at', micros(d.expires_at), 'result', d.result,
                    'replayed', d.replayed)
                FROM deliveries d WHERE d.request_id = r.request_id)
        )), '{}') FROM hitl_requests r),
    'letters', (SELECT COALESCE(json_object_agg(x.dead_letter_id, json_build_object(
            'request_id', x.request_id, 'cause', x.cause, 'attempts', x.attempts,
            'resolution', x.resolution, 'by', x.resolved_by, 'reason', x.resolve_reason
        )), '{}') FROM dead_letters x),
    'outbox', (SELECT COALESCE(json_object_agg(o.request_id || '/' || o.seq, micros(o.claimed_until)), '{}')
        FROM outbox o),
    'counted', (SELECT json_object_agg(c.agent_id, json_build_array(c.pending, c.pending_p1)) FROM agent_caps c)
)::text
";

/// The state of everything.
#[derive(Debug, Deserialize)]
pub struct Observed {
    pub requests: HashMap<String, Row>,
    letters: HashMap<String, LetterRow>,
    outbox: BTreeMap<String, Micros>,
    counted: HashMap<String, (usize, usize)>,
}

#[derive(Debug, Deserialize)]
pub struct Row {
    agent_id: String,
    status: String,
    priority: i16,
    on_timeout: String,
    created_at: Micros,
    respond_by: Micros,
    escalate_at: Option<Micros>,
    escalated_at: Option<Micros>,
    changed_at: Micros,
    length: usize,
    permit: Permit,
    votes: Votes,
    written: Option<(Option<String>, Option<String>)>,
    chain: Vec<(String, Micros)>,
    decision: Option<(String, String, String, String, Option<String>)>,
    pub delivery: Option<DeliveryRow>,
}

/// Approvals that decide, those that are there, who gave them, and their reasons.
type Votes = (usize, usize, Vec<String>, Option<Vec<Option<String>>>);

/// Its end, what is on record of its use, the attempt that used it and when, and when its outcome is unknown.
type Permit = (Option<Micros>, Option<String>, Option<String>, Option<Micros>, Option<Micros>);

#[derive(Debug, Deserialize)]
pub struct DeliveryRow {
    state: String,
    pub attempt: i32,
    delivery_id: Option<String>,
    visible_at: Micros,
    expires_at: Micros,
    result: Option<String>,
    replayed: bool,
}

#[derive(Debug, Deserialize)]
struct LetterRow {
    request_id: String,
    cause: String,
    attempts: i32,
    resolution: Option<String>,
    by: Option<String>,
    reason: Option<String>,
}

/// Makes what the functions below need.
pub async fn prepare(owner: &PgPool) -> Result<()> {
    sqlx::raw_sql(FAULTS).execute(owner).await?;
    Ok(())
}

/// Empties the database.
pub async fn empty(owner: &PgPool) -> Result<()> {
    sqlx::raw_sql(EMPTY).execute(owner).await?;
    Ok(())
}

/// The next statements that write fail so.
pub async fn arm(owner: &PgPool, fault: Fault) -> Result<()> {
    let (tries, code) = match fault {
        Fault::None | Fault::AnswerLost => return Ok(()),
        Fault::Conflicts(tries) => (tries, "40001"),
        Fault::Aborted => (1, "57014"),
        Fault::ConnectionLost => (1, "57P01"),
        Fault::Broken => (1, "23514"),
    };
    sqlx::query("UPDATE fault SET sqlstate = $1").bind(code).execute(owner).await?;
    sqlx::query("SELECT setval('faults', $1)").bind(-tries).execute(owner).await?;
    Ok(())
}

/// From now on all is well.
pub async fn disarm(owner: &PgPool) -> Result<()> {
    sqlx::query("SELECT setval('faults', 1)").execute(owner).await?;
    Ok(())
}

/// Whether no other session writes: one that was ended holds its rows until it is gone.
pub async fn is_at_rest(owner: &PgPool) -> Result<bool> {
    let writing = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid())";
    Ok(!sqlx::query_scalar::<_, bool>(writing).fetch_one(owner).await?)
}

/// Reads the state of everything.
pub async fn observe(owner: &PgPool) -> Result<Observed> {
    let text: String = sqlx::query_scalar(OBSERVE).fetch_one(owner).await?;
    Ok(serde_json::from_str(&text)?)
}

impl Observed {
    /// Compares with the model, which takes over what only the database can know: ids, and where in its range a
    /// random moment fell.
    pub fn compare(&self, model: &mut Model) -> Result<()> {
        for (number, request) in model.requests.iter_mut().enumerate() {
            let id = request.id.clone().context("no answer ever named it")?;
            let row = self.requests.get(&id).with_context(|| format!("request {number} is lost"))?;
            row.compare(request).with_context(|| format!("request {number}, {id}"))?;
        }
        ensure!(self.requests.len() == model.requests.len(), "requests that nobody asked for: {:?}", self.requests);
        self.compare_letters(model)?;
        // Counted is who has a cap.
        let counted = [(AGENTS[0].to_owned(), (0, 0)), (AGENTS[1].to_owned(), model.pending(1))];
        same("what is counted as pending", &self.counted, &counted.into())?;
        let outbox = model.outbox.iter().map(|((request, seq), until)| (event_id(model, *request, *seq), *until));
        same("outbox", &self.outbox, &outbox.collect())
    }

    fn compare_letters(&self, model: &mut Model) -> Result<()> {
        for number in 0..model.letters.len() {
            let of = model.requests[model.letters[number].request].id.as_deref();
            let known: Vec<_> = model.letters.iter().filter_map(|letter| letter.id.clone()).collect();
            let letter = &mut model.letters[number];
            if letter.id.is_none() {
                let mut new =
                    self.letters.iter().filter(|(id, row)| Some(&*row.request_id) == of && !known.contains(id));
                letter.id = new.next().map(|(id, _)| id.clone());
            }
            let row = letter.id.as_ref().and_then(|id| self.letters.get(id));
            let row = row.with_context(|| format!("there is no dead letter {number}"))?;
            same("its cause", &row.cause, &letter.cause.to_owned())?;
            same("its attempts", &row.attempts, &letter.attempts)?;
            let resolution = letter.resolution.as_ref();
            same("its resolution", &row.resolution, &resolution.map(|(how, ..)| (*how).to_owned()))?;
            same("who resolved it", &row.by, &resolution.map(|(_, who, _)| who.clone()))?;
            same("why", &row.reason, &resolution.and_then(|(.., reason)| reason.map(str::to_owned)))?;
        }
        same("dead letters", &self.letters.len(), &model.letters.len())
    }
}

impl Row {
    fn compare(&self, request: &mut Request) -> Result<()> {
        same("agent", &self.agent_id, &AGENTS[request.agent].to_owned())?;
        same("status", &self.status.as_str(), &if request.is_decided { "decided" } else { "pending" })?;
        same("priority", &self.priority, &request.priority)?;
        let on_timeout = match request.on_timeout {
            OnTimeout::Reject => "auto_reject",
            OnTimeout::Approve => "auto_approve",
            OnTimeout::Raise => "raise",
        };
        same("on_timeout", &self.on_timeout.as_str(), &on_timeout)?;
        same("created_at", &self.created_at, &request.created_at)?;
        same("respond_by", &self.respond_by, &request.respond_by)?;
        same("escalate_at", &self.escalate_at, &request.escalate_at)?;
        same("escalated_at", &self.escalated_at, &request.escalated_at)?;
        let chain: Vec<_> = request.chain.iter().map(|entry| (entry.kind.to_owned(), entry.at)).collect();
        same("chain", &self.chain, &chain)?;
        same("chain_length", &self.length, &chain.len())?;
        same("changed_at", &Some(self.changed_at), &chain.last().map(|(_, at)| *at))?;
        let decision = request.decision.as_ref().map(|decision| {
            let (kind, id) = decision.by.clone();
            (decision.outcome.into(), decision.cause.into(), kind.into(), id, decision.reason.map(str::to_owned))
        });
        same("decision", &self.decision, &decision)?;
        same("permit", &self.permit, &permit(request))?;
        let voters = request.votes.iter().map(|(who, _)| (*who).to_owned()).collect();
        let reasons: Vec<_> = request.votes.iter().map(|(_, reason)| reason.map(str::to_owned)).collect();
        let reasons = (!reasons.is_empty()).then_some(reasons);
        same("votes", &self.votes, &(request.approvals, request.votes.len(), voters, reasons))?;
        let written = request.decision.as_ref().and_then(|decision| {
            let amount = decision.edited_to.map(|arguments| if arguments == ASKED { "12.40" } else { "9.00" });
            let text = decision.response.map(response);
            (amount.is_some() || text.is_some()).then(|| (amount.map(str::to_owned), text.map(str::to_owned)))
        });
        same("what was written", &self.written, &written)?;
        same("delivery", &self.delivery.is_some(), &request.delivery.is_some())?;
        let (Some(row), Some(delivery)) = (&self.delivery, &mut request.delivery) else { return Ok(()) };
        same("delivery state", &row.state.as_str(), &delivery.state)?;
        same("attempt", &row.attempt, &delivery.attempt)?;
        same("expires_at", &row.expires_at, &delivery.expires_at)?;
        same("result", &row.result.as_deref(), &delivery.result.map(crate::commands::AckResult::as_str))?;
        same("replayed", &row.replayed, &delivery.is_replayed)?;
        let (from, to) = delivery.visible;
        ensure!((from..=to).contains(&row.visible_at), "visible_at is {}, not in {from}..={to}", row.visible_at);
        delivery.visible = (row.visible_at, row.visible_at);
        if delivery.ids.last() != row.delivery_id.as_ref() {
            delivery.ids.extend(row.delivery_id.clone());
        }
        same("attempts with an id", &delivery.ids.len(), &usize::try_from(delivery.attempt)?)
    }
}

/// The stored columns of a request's permit.
fn permit(request: &Request) -> Permit {
    let execution = request.used.as_ref().map(|_| request.execution(Micros::MAX).to_owned());
    let (key, at) = request.used.as_ref().map(|used| (consume_key(used.key), used.at)).unzip();
    (request.permit_expires_at, execution, key, at, request.outcome_due)
}

/// An event's id.
pub fn event_id(model: &Model, request: usize, seq: usize) -> String {
    format!("{}/{seq}", model.requests[request].id.as_deref().unwrap_or_default())
}

/// What is must be what should be.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should_be: &T) -> Result<()> {
    ensure!(is == should_be, "{what} is {is:?} and should be {should_be:?}");
    Ok(())
}
