//! Channels of people in a file of administration (contract, "Channels").

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admin::Applying;
use crate::exit::Result;

const CHANNELS: &str = "/v1/admin/channels";

/// A channel; its further members are those of `PUT …/channels/{channel_id}`.
#[derive(Debug, Deserialize)]
pub struct ChannelWanted {
    channel_id: String,
    /// There is to be none.
    #[serde(default)]
    absent: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Brings channels to what a file says. Secrets are never shown, so they are not compared: another one is sent where something
/// else changes, too, or after the channel was absent.
pub async fn apply(applying: &mut Applying<'_>, wanted: &[ChannelWanted]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let standing = applying.person.all(CHANNELS).await?;
    for channel in wanted {
        let standing = standing.iter().find(|it| it["channel_id"] == channel.channel_id);
        let (said, path) = (format!("channel {}", channel.channel_id), format!("{CHANNELS}/{}", channel.channel_id));
        if channel.absent {
            if standing.is_some() {
                applying.change(&format!("- {said}"), Method::DELETE, &path, None).await?;
            }
            continue;
        }
        let sign = match standing {
            None => '+',
            Some(standing) if is_other(standing, &channel.more) => '~',
            Some(_) => continue,
        };
        applying.change(&format!("{sign} {said}"), Method::PUT, &path, Some(channel.more.clone().into())).await?;
    }
    Ok(())
}

/// Whether what is shown of a channel differs from what is wanted. What is left out is its default.
fn is_other(standing: &Value, wanted: &Map<String, Value>) -> bool {
    let shown = |config: &Value| json!([config["url"], config["to"]]);
    let null = Value::Null;
    let of = |member: &str| wanted.get(member).unwrap_or(&null).clone();
    standing["kind"] != of("kind")
        || shown(&standing["config"]) != shown(&of("config"))
        || sorted(&standing["events"]) != sorted(&of("events"))
        || standing["match"] != of("match")
}

fn sorted(value: &Value) -> Vec<String> {
    let mut names: Vec<_> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_another_one_where_what_is_shown_differs() {
        let standing = json!({
            "channel_id": "ops", "kind": "webhook", "config": {"url": "https://a.example/"}, "events": ["requested", "escalated"],
            "match": null,
        });
        let wanted = json!({
            "kind": "webhook", "config": {"url": "https://a.example/", "secret": "whsec_x"}, "events": ["escalated", "requested"],
        });
        let other = |change: &dyn Fn(&mut Value)| {
            let mut wanted = wanted.clone();
            change(&mut wanted);
            is_other(&standing, wanted.as_object().unwrap())
        };
        assert!(!other(&|_| {}));
        assert!(!other(&|it| it["match"] = Value::Null));
        assert!(!other(&|it| it["config"]["secret"] = json!("whsec_y")));
        assert!(other(&|it| it["config"]["url"] = json!("https://b.example/")));
        assert!(other(&|it| it["events"] = json!(["requested"])));
        assert!(other(&|it| it["match"] = json!({"priorities": ["P1"]})));
        assert!(other(&|it| it["kind"] = json!("slack")));
    }
}
