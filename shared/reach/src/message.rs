//! What others are told. People: the title with links broken up, priority, agent, action type, the time left, one link;
//! never arguments, context or tokens. Agents: what was resolved, and nothing that they could act on without asking.

use chrono::{DateTime, TimeDelta, Utc};
use relaytrace_domain::{
    ActionType, AgentId, Cause, ClientRequestKey, KeyId, Notice, Outcome, Priority, RequestId, Status, Timestamp,
};
use serde_json::{Value, json};

/// A message: the same at every try but for the time left.
#[derive(Clone, Debug)]
pub struct Message {
    /// Names it: the same at every try, so that a receiver knows a repetition.
    pub id: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// For programs: the body of a webhook.
    pub payload: Value,
    /// One line for people.
    pub subject: String,
    /// Further lines for people.
    pub lines: Vec<String>,
    /// Where to look.
    pub link: Option<String>,
}

/// A request that people are told of.
#[derive(Clone, Debug)]
pub struct About {
    /// Why.
    pub notice: Notice,
    /// The request.
    pub request_id: RequestId,
    /// Who asks.
    pub agent_id: AgentId,
    /// The line of the queue.
    pub title: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Type of the action.
    pub action_type: ActionType,
    /// Its state.
    pub status: Status,
    /// The deadline.
    pub respond_by: DateTime<Utc>,
    /// The decision, if there is one.
    pub outcome: Option<Outcome>,
    /// Why it was made.
    pub cause: Option<Cause>,
}

/// What an agent is told (contract, "Agents' push").
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The agent.
    pub agent_id: AgentId,
    /// The request.
    pub request_id: RequestId,
    /// The agent's own key of it.
    pub client_request_key: ClientRequestKey,
    /// Its state.
    pub status: Status,
    /// The decision.
    pub outcome: Option<Outcome>,
}

impl Message {
    /// People are told of a request.
    #[must_use]
    pub fn notice(id: String, at: DateTime<Utc>, about: &About, now: DateTime<Utc>, link: Option<String>) -> Self {
        let About { notice, agent_id, priority, .. } = about;
        let priority = priority_name(*priority);
        let (title, action_type) = (without_links(&about.title), without_links(about.action_type.as_str()));
        let left = (about.status == Status::Pending).then(|| (about.respond_by - now).max(TimeDelta::zero()));
        let data = json!({
            "request_id": about.request_id, "agent_id": agent_id, "title": title, "priority": priority,
            "action_type": about.action_type, "status": about.status, "respond_by": Timestamp(about.respond_by),
            "seconds_left": left.map(|left| left.num_seconds()), "outcome": about.outcome, "cause": about.cause,
            "link": link,
        });
        let mut lines = vec![headline(about), title.clone(), format!("Action type: {action_type}")];
        if let Some(left) = left {
            let until = about.respond_by.format("%Y-%m-%d %H:%M UTC");
            lines.push(format!("Time left: {} (until {until})", in_words(left)));
        }
        let subject = format!("[{priority}] {}: {title}", subject_word(*notice));
        let payload = standard(&format!("request.{}", notice.as_str()), at, &data);
        Self { id, at, payload, subject, lines, link }
    }

    /// A person's browser shows it: what [`Message::notice`] tells people, in the members that the page's service worker reads.
    #[must_use]
    pub fn to_browser(id: String, at: DateTime<Utc>, about: &About, link: Option<&str>) -> Self {
        let title = without_links(&about.title);
        let payload = json!({
            "id": id, "notice": about.notice, "request_id": about.request_id, "title": title,
            "priority": priority_name(about.priority), "agent_id": about.agent_id, "action_type": about.action_type,
            "respond_by": Timestamp(about.respond_by), "link": link,
        });
        Self { id, at, payload, subject: String::new(), lines: Vec::new(), link: None }
    }

    /// A try-out of a channel.
    #[must_use]
    pub fn test(id: String, channel: &str, at: DateTime<Utc>, link: Option<String>) -> Self {
        let channel = without_links(channel);
        Self {
            id,
            at,
            payload: standard("channel.test", at, &json!({"channel_id": channel, "link": link})),
            subject: format!("RelayTrace: the channel {channel} works"),
            lines: vec!["An administrator has tried this channel out. There is nothing to decide.".into()],
            link,
        }
    }

    /// An agent is told of what was resolved. No authority is in it: the agent asks.
    #[must_use]
    pub fn resolved(id: String, at: DateTime<Utc>, resolved: &Resolved) -> Self {
        let Resolved { agent_id, request_id, client_request_key, status, outcome } = resolved;
        let data = json!({
            "agent_id": agent_id, "request_id": request_id, "client_request_key": client_request_key, "status": status,
            "outcome": outcome,
        });
        Self::bare(id, at, standard("request.resolved", at, &data))
    }

    /// A receiver is asked whether it is meant.
    #[must_use]
    pub fn challenge(id: String, at: DateTime<Utc>, challenge: &str) -> Self {
        Self::bare(id, at, standard("webhook.verification", at, &json!({"challenge": challenge})))
    }

    /// The receiver of an instance is told of what was resolved, as the Agent Approval Protocol has it.
    #[must_use]
    pub fn resolved_of_instance(id: String, at: DateTime<Utc>, instance_id: &KeyId, request_id: RequestId) -> Self {
        let payload = json!({
            "id": id, "type": "request.resolved", "instance_id": instance_id, "request_id": request_id,
            "created_at": Timestamp(at),
        });
        Self::bare(id, at, payload)
    }

    /// The receiver of an instance is asked whether it is meant, as the Agent Approval Protocol has it.
    #[must_use]
    pub fn challenge_of_instance(
        id: String,
        at: DateTime<Utc>,
        registration_id: &str,
        instance_id: &KeyId,
        challenge: &str,
    ) -> Self {
        let payload = json!({
            "id": id, "type": "webhook.verification", "registration_id": registration_id, "instance_id": instance_id,
            "created_at": Timestamp(at), "challenge": challenge,
        });
        Self::bare(id, at, payload)
    }

    fn bare(id: String, at: DateTime<Utc>, payload: Value) -> Self {
        Self { id, at, payload, subject: String::new(), lines: Vec::new(), link: None }
    }

    /// The body of a webhook.
    pub(crate) fn json(&self) -> Vec<u8> {
        self.payload.to_string().into_bytes()
    }

    /// All lines, for people, without the link.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// Standard Webhooks, "Payload structure".
fn standard(kind: &str, at: DateTime<Utc>, data: &Value) -> Value {
    json!({"type": kind, "timestamp": Timestamp(at), "data": data})
}

fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::P1 => "P1",
        Priority::P2 => "P2",
        Priority::P3 => "P3",
    }
}

fn subject_word(notice: Notice) -> &'static str {
    match notice {
        Notice::Requested => "Asked",
        Notice::Escalated => "Not answered yet",
        Notice::Decided => "Decided",
        Notice::TimedOut => "Timed out",
        Notice::OutcomeUnknown => "Outcome unknown",
        Notice::DeadLettered => "Not delivered",
    }
}

fn headline(about: &About) -> String {
    let About { agent_id, .. } = about;
    let priority = priority_name(about.priority);
    let outcome = about.outcome.map_or("decided", |outcome| outcome.as_str());
    match about.notice {
        Notice::Requested => format!("{priority}: {agent_id} asks"),
        Notice::Escalated => format!("{priority}: nobody has answered {agent_id} yet"),
        Notice::Decided => format!("{priority}: {outcome}, for {agent_id}"),
        Notice::TimedOut => format!("{priority}: nobody answered {agent_id} in time: {outcome}"),
        Notice::OutcomeUnknown => {
            format!("{priority}: {agent_id} has used an approval, and nobody says what became of it")
        }
        Notice::DeadLettered => format!("{priority}: the decision could not be delivered to {agent_id}"),
    }
}

/// Whole minutes, hours or days.
fn in_words(left: TimeDelta) -> String {
    let counted = |number: i64, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    match left.num_seconds() {
        seconds if seconds < 120 => counted(seconds, "second"),
        seconds if seconds < 2 * 3_600 => counted(seconds / 60, "minute"),
        seconds if seconds < 2 * 86_400 => counted(seconds / 3_600, "hour"),
        seconds => counted(seconds / 86_400, "day"),
    }
}

/// A text of an agent's in which no program finds a link, a mention or another direction of writing.
///
/// Programs that show messages make links of `scheme://`, of names with dots in them and of addresses of mail. So a space
/// comes after each `:` before `//`, and after each dot that stands between a character and a letter: names have emoji and
/// combining marks in them, too.
#[must_use]
pub fn without_links(text: &str) -> String {
    // All of them are a dot in a name (Unicode Technical Standard 46).
    const DOTS: [char; 6] = ['.', '\u{2024}', '\u{3002}', '\u{fe52}', '\u{ff0e}', '\u{ff61}'];
    let visible: Vec<char> = text.chars().filter(|character| !is_invisible(*character)).collect();
    let mut broken = String::with_capacity(visible.len() + 8);
    for (index, &character) in visible.iter().enumerate() {
        broken.push(character);
        let before = index.checked_sub(1).map(|before| visible[before]);
        let (next, after) = (visible.get(index + 1).copied(), visible.get(index + 2).copied());
        let is_dot = DOTS.contains(&character)
            && before.is_some_and(|before| !before.is_whitespace())
            && next.is_some_and(char::is_alphabetic);
        let is_scheme = character == ':' && next == Some('/') && after == Some('/');
        let is_mention = matches!(character, '@' | '<') && next.is_some_and(|next| !next.is_whitespace());
        if is_dot || is_scheme || is_mention {
            broken.push(' ');
        }
    }
    broken
}

/// What is not seen and changes how the rest reads: directions, separators of lines, and whatever a name is the same with
/// and without (Unicode, `Default_Ignorable_Code_Point`).
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_left_in_a_title() {
        for (title, told) in [
            ("Refund 1,240.50 EUR to customer 88213", "Refund 1,240.50 EUR to customer 88213"),
            ("See https://evil.example/x?y=1", "See https: //evil. example/x?y=1"),
            ("www.evil.example", "www. evil. example"),
            ("mail a@evil.example", "mail a@ evil. example"),
            ("evil\u{3002}example", "evil\u{3002} example"),
            ("evil\u{200b}.example", "evil. example"),
            ("<!channel> <https://x|y>", "< !channel> < https: //x|y>"),
            ("\u{202e}txt.exe", "txt. exe"),
            ("Version 2.0 is out. Deploy?", "Version 2.0 is out. Deploy?"),
            ("1.a", "1. a"),
            // What a name ignores, what it counts as a dot, and what is no letter and still part of one.
            ("evil\u{34f}.example", "evil. example"),
            ("evil.\u{fe0f}example", "evil. example"),
            ("evil\u{e0100}.\u{3164}example", "evil. example"),
            ("evil\u{fe52}example\u{2024}com", "evil\u{fe52} example\u{2024} com"),
            ("cafe\u{301}.example", "cafe\u{301}. example"),
            ("i\u{2764}.example", "i\u{2764}. example"),
            ("evil-.example", "evil-. example"),
            ("Read .env, then ../notes", "Read .env, then ../notes"),
            ("Refund\r\nBcc: all@evil.example", "RefundBcc: all@ evil. example"),
        ] {
            assert_eq!(without_links(title), told);
        }
    }

    #[test]
    fn people_are_told_what_they_need_and_agents_what_to_ask_for() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let request_id: RequestId = "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17".parse().unwrap();
        let about = About {
            notice: Notice::Requested,
            request_id,
            agent_id: "billing".parse().unwrap(),
            title: "Refund, see http://x.example".into(),
            priority: Priority::P1,
            action_type: "refund.create".parse().unwrap(),
            status: Status::Pending,
            respond_by: at + TimeDelta::minutes(14),
            outcome: None,
            cause: None,
        };
        let message = Message::notice("m".into(), at, &about, at, Some("https://page.example/?id=1".into()));
        assert_eq!(message.subject, "[P1] Asked: Refund, see http: //x. example");
        assert_eq!(
            message.text(),
            "P1: billing asks\nRefund, see http: //x. example\nAction type: refund. create\n\
             Time left: 14 minutes (until 2027-01-15 08:14 UTC)"
        );
        let told: Value = serde_json::from_slice(&message.json()).unwrap();
        assert_eq!((&told["type"], &told["data"]["seconds_left"]), (&"request.requested".into(), &840.into()));

        let resolved = Resolved {
            agent_id: "billing".parse().unwrap(),
            request_id,
            client_request_key: "refund-1".parse().unwrap(),
            status: Status::Decided,
            outcome: Some(Outcome::Rejected),
        };
        let told: Value = serde_json::from_slice(&Message::resolved("m".into(), at, &resolved).json()).unwrap();
        let expected = json!({
            "type": "request.resolved", "timestamp": "2027-01-15T08:00:00.000000Z",
            "data": {
                "agent_id": "billing", "request_id": "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17",
                "client_request_key": "refund-1", "status": "decided", "outcome": "rejected",
            },
        });
        assert_eq!(told, expected);
    }
}
