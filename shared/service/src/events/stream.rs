//! The stream itself: its creation, publishing onto it, and whether it holds what was published.

use std::error::Error as _;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use std::time::Duration;

use futures_util::future::join_all;

use super::nats::{Publication, STREAM};
use relaytrace_domain::{AgentId, RequestId, Timestamp};
use relaytrace_store::{OutboxEvent, ToldEntry};

/// What the stream takes.
pub(super) const SUBJECTS: &str = "handoff.>";

/// `handoff.<what>.<agent_id>` (contract, "Events"). Subjects are built here only.
fn subject(kind: &str, agent_id: &AgentId) -> String {
    format!("handoff.{kind}.{agent_id}")
}

/// Finds the stream or makes it; its subjects.
pub(super) async fn ensure(context: &Context, replicas: usize) -> anyhow::Result<Vec<String>> {
    let config = Config {
        name: STREAM.into(),
        description: Some("Events of RelayTrace; the truth is in its database".into()),
        subjects: vec![SUBJECTS.into()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        max_age: Duration::from_hours(8 * 24),
        num_replicas: replicas,
        duplicate_window: Duration::from_mins(10),
        ..Config::default()
    };
    let stream = context.get_or_create_stream(config).await?;
    Ok(stream.cached_info().config.subjects.clone())
}

/// Sends events without waiting for their acknowledgements. `None`: one was too long to be sent.
pub(super) async fn send(
    context: &Context,
    events: &[OutboxEvent],
) -> Result<Vec<Option<PublishAckFuture>>, PublishError> {
    let mut sent = Vec::with_capacity(events.len());
    for event in events {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, event.id());
        if let Some(traceparent) = &event.traceparent {
            headers.insert("traceparent", traceparent.as_str());
        }
        let payload = event.payload.clone().into();
        match context.publish_with_headers(subject(&event.kind, &event.agent_id), headers, payload).await {
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => sent.push(None),
            acknowledgement => sent.push(Some(acknowledgement?)),
        }
    }
    Ok(sent)
}

/// What became of an event that was sent.
///
/// The stream takes a second message with an id for a repetition of the first, from any sender. So a duplicate is
/// compared: another sender may have taken the event's id before it was published.
pub(super) async fn outcome(context: &Context, event: &OutboxEvent, sent: Option<PublishAckFuture>) -> Publication {
    let Some(sent) = sent else { return Publication::TooLong };
    match sent.await {
        Ok(acknowledgement) if acknowledgement.duplicate => {
            match is_on_stream(context, event, acknowledgement.sequence).await {
                Ok(true) => Publication::Acknowledged,
                Ok(false) => {
                    tracing::error!(
                        event.id = event.id(),
                        stream.sequence = acknowledgement.sequence,
                        "the stream has another message under this event's id: someone else publishes on its subjects"
                    );
                    Publication::Refused("another message on the stream has its id".into())
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        event.id = event.id(),
                        "a duplicate cannot be compared"
                    );
                    Publication::Acknowledged
                }
            }
        }
        Ok(_) => Publication::Acknowledged,
        Err(error) => publication_of(&error),
    }
}

/// The members of an event that say which entry it tells.
#[derive(serde::Deserialize)]
struct Told {
    subject: RequestId,
    sequence: i32,
    time: Timestamp,
}

/// The chain entries that the newest messages tell of; messages that are no events of ours are left out.
pub(super) async fn newest(context: &Context, count: u64) -> anyhow::Result<Vec<ToldEntry>> {
    let stream = context.get_stream(STREAM).await?;
    let last = stream.cached_info().state.last_sequence;
    let sequences = last.saturating_sub(count).saturating_add(1)..=last;
    // Some may be gone, of age.
    let messages = join_all(sequences.map(|sequence| stream.get_raw_message(sequence))).await;
    let told =
        messages.into_iter().flatten().filter_map(|message| serde_json::from_slice::<Told>(&message.payload).ok());
    Ok(told.map(|told| ToldEntry { request_id: told.subject, seq: told.sequence, at: told.time.0 }).collect())
}

async fn is_on_stream(context: &Context, event: &OutboxEvent, sequence: u64) -> anyhow::Result<bool> {
    let stream = context.get_stream_no_info(STREAM).await?;
    let message = stream.get_raw_message(sequence).await?;
    let is_there = message.subject.as_str() == subject(&event.kind, &event.agent_id);
    Ok(is_there && message.payload.as_ref() == event.payload.as_slice())
}

/// Classifies a failed acknowledgement.
fn publication_of(error: &PublishError) -> Publication {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Publication::TooLong,
        PublishErrorKind::Other => {
            Publication::Refused(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        }
        _ => Publication::Unreached,
    }
}
