//! Reads the event stream.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, consumer::DeliverPolicy};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

/// Name of the stream (contract, "Events").
const STREAM: &str = "RELAYTRACE";
/// Longest wait for the next message of what is there.
const LONGEST: Duration = Duration::from_secs(20);

/// Every message on the stream, by its `Nats-Msg-Id`: the payloads, once or more often.
pub async fn read(nats_url: &str) -> Result<HashMap<String, Vec<Bytes>>> {
    let client = async_nats::connect(nats_url).await.context("cannot connect to NATS")?;
    let context = jetstream::new(client);
    let mut stream = context.get_stream(STREAM).await.context("there is no stream")?;
    let last = stream.info().await?.state.last_sequence;
    let count = stream.cached_info().state.messages;
    let mut messages = HashMap::new();
    if count == 0 {
        return Ok(messages);
    }
    let config = OrderedConfig { deliver_policy: DeliverPolicy::All, ..OrderedConfig::default() };
    let consumer = stream.create_consumer(config).await?;
    let mut incoming = consumer.messages().await?;
    let mut read = 0;
    loop {
        let next = timeout(LONGEST, incoming.next()).await.context("the stream stopped in the middle")?;
        let message = next.context("the stream ended in the middle")??;
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        let id = id.context("a message on the stream has no Nats-Msg-Id")?.to_string();
        messages.entry(id).or_insert_with(Vec::new).push(message.payload.clone());
        read += 1;
        if message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence >= last {
            break;
        }
    }
    ensure!(read >= count, "the stream holds {count} messages and gave {read}");
    Ok(messages)
}
