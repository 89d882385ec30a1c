//! What the queue's parameters mean, with every fault at once.

use std::str::FromStr;

use relaytrace_domain::{ActionType, DeliveryState, Faults, Outcome, Timestamp};
use relaytrace_service::auth::Person;
use relaytrace_service::http::parse_list;
use relaytrace_store::{Assignee, QueueFilter};

use crate::queue::QueueQuery;

const OUTCOMES: [Outcome; 4] = [Outcome::Approved, Outcome::Rejected, Outcome::Cancelled, Outcome::Responded];
const DELIVERIES: [DeliveryState; 4] =
    [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Acknowledged, DeliveryState::DeadLettered];

/// The filter that the query asks for; it means nothing where there are faults.
pub(crate) fn read(faults: &mut Faults, query: &QueueQuery, caller: &Person) -> QueueFilter {
    let (from, to) = (time(faults, "from", &query.from), time(faults, "to", &query.to));
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        faults.add("/to", "must be after from");
    }
    let assigned_to = single(faults, "assigned_to", &query.assigned_to);
    if assigned_to.is_some_and(|who| who != "me") {
        faults.add("/assigned_to", "must be me");
    }
    QueueFilter {
        priorities: parse_list(faults, "priority", &query.priority),
        agent_ids: parse_list(faults, "agent_id", &query.agent_id),
        action_types: parse_list::<ActionType>(faults, "type", &query.action_type)
            .into_iter()
            .map(String::from)
            .collect(),
        outcomes: known(faults, "outcome", &query.outcome, &OUTCOMES, Outcome::as_str),
        decided_by: people(faults, &query.decided_by),
        delivery_states: known(faults, "delivery_state", &query.delivery_state, &DELIVERIES, DeliveryState::as_str),
        groups: parse_list::<Group>(faults, "group", &query.group).into_iter().map(|it| it.0).collect(),
        assigned_to: assigned_to.map(|_| Assignee { id: caller.id.clone(), groups: caller.groups.clone() }),
        from: from.map(|Timestamp(at)| at),
        to: to.map(|Timestamp(at)| at),
        words: words(faults, query.q.as_deref().unwrap_or_default()),
    }
}

/// A parameter that is given once. (As an `Option`, an empty one would count as none.)
fn single<'a>(faults: &mut Faults, name: &str, texts: &'a [String]) -> Option<&'a str> {
    if texts.len() > 1 {
        faults.add(format!("/{name}"), "must be given once");
    }
    texts.first().map(String::as_str)
}

fn time(faults: &mut Faults, name: &str, texts: &[String]) -> Option<Timestamp> {
    let parsed = single(faults, name, texts)?.parse::<Timestamp>();
    parsed.map_err(|rule| faults.add(format!("/{name}"), rule.to_string())).ok()
}

fn people(faults: &mut Faults, ids: &[String]) -> Vec<String> {
    const LONGEST: usize = 255;
    if ids.iter().any(|id| id.is_empty() || id.contains('\0') || id.chars().count() > LONGEST) {
        faults.add("/decided_by", "must be 1 to 255 characters without U+0000");
    }
    ids.to_vec()
}

fn words(faults: &mut Faults, text: &str) -> Vec<String> {
    if text.contains('\0') || text.chars().count() > 200 {
        faults.add("/q", "must be at most 200 characters without U+0000");
    }
    text.split_whitespace().map(str::to_owned).collect()
}

/// Values of a closed set.
fn known<T: Copy>(
    faults: &mut Faults,
    name: &str,
    texts: &[String],
    all: &[T],
    text_of: fn(T) -> &'static str,
) -> Vec<T> {
    let given: Vec<String> = parse_list(faults, name, texts);
    let found: Vec<T> = given.iter().filter_map(|text| all.iter().copied().find(|one| text_of(*one) == text)).collect();
    if found.len() < given.len() {
        let names: Vec<_> = all.iter().map(|one| text_of(*one)).collect();
        faults.add(format!("/{name}"), format!("must be of {}", names.join(", ")));
    }
    found
}

/// contract 1.1, "Ask": `group`.
struct Group(String);

impl FromStr for Group {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        let is_group = (1..=128).contains(&text.len()) && text.chars().all(is_known);
        is_group.then(|| Self(text.to_owned())).ok_or("must be 1 to 128 of A-Z, a-z, 0-9, and . _ : -")
    }
}
