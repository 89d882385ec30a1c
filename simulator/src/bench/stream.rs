//! Throughput of NATS alone: events of a usual size, acknowledged by a stream on disk, pipelined.

use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::HeaderMap;
use async_nats::jetstream::{self, context::Context, stream};
use futures_util::future::join_all;

/// Length of an event.
const EVENT_BYTES: usize = 450;
/// Events whose acknowledgements are awaited together, as the service's publisher does at the most.
const BATCH: usize = 512;
const MEASURED: Duration = Duration::from_secs(3);

/// Acknowledged events per second.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub pipelined: f64,
    pub one_by_one: f64,
}

/// Publishes to a stream of its own, and removes it.
pub async fn measure(nats_url: &str) -> Result<Stream> {
    const NAME: &str = "BENCH";
    eprintln!("NATS alone …");
    let context = jetstream::new(async_nats::connect(nats_url).await?);
    let config = stream::Config { name: NAME.into(), subjects: vec!["bench.>".into()], ..stream::Config::default() };
    context.create_stream(config).await?;
    let stream = Stream { pipelined: publish(&context, BATCH).await?, one_by_one: publish(&context, 1).await? };
    context.delete_stream(NAME).await?;
    Ok(stream)
}

async fn publish(context: &Context, batch: usize) -> Result<f64> {
    let payload = bytes::Bytes::from(vec![b'x'; EVENT_BYTES]);
    let (begun, mut published) = (Instant::now(), 0_u32);
    while begun.elapsed() < MEASURED {
        let mut sent = Vec::with_capacity(batch);
        for number in 0..batch {
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, format!("{batch}-{published}-{number}"));
            sent.push(context.publish_with_headers("bench.event", headers, payload.clone()).await?);
        }
        for acknowledged in join_all(sent.into_iter().map(IntoFuture::into_future)).await {
            acknowledged?;
            published += 1;
        }
    }
    Ok(f64::from(published) / begun.elapsed().as_secs_f64())
}
