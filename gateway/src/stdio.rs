//! A client on this process's own standard streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::child::CHANNEL;
use crate::guard::Guard;
use crate::session::Session;
use crate::{Ended, Way, lines};

/// How long the client may take to read what is left once this process is told to stop.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Serves the client until it, the server, or this process ends.
pub async fn serve(guard: Arc<Guard>, way: &Way, stop: &CancellationToken) -> std::io::Result<Ended> {
    let (to_client, told) = mpsc::channel(CHANNEL);
    let (from_server, mut said) = mpsc::channel::<String>(CHANNEL);
    let (from_client, mut asked) = mpsc::channel::<String>(CHANNEL);
    let mut server = way.start(from_server)?;
    let session = Session::new(guard, String::new(), to_client, server.to_server.clone());
    let writing = tokio::spawn(lines::write(told, tokio::io::stdout()));
    let reading = tokio::spawn(lines::read(BufReader::new(tokio::io::stdin()), from_client));
    let passing = {
        let session = session.clone();
        tokio::spawn(async move {
            while let Some(text) = said.recv().await {
                session.said(&text).await;
            }
        })
    };
    let ended = loop {
        tokio::select! {
            text = asked.recv() => match text {
                Some(text) => tokio::select! {
                    () = session.asked(&text, None) => {}
                    () = stop.cancelled() => break Ended::Stopped,
                },
                None => break Ended::ByClient,
            },
            how = &mut server.ended => break Ended::ByServer(how.unwrap_or_else(|error| error.to_string())),
            () = stop.cancelled() => break Ended::Stopped,
        }
    };
    session.hang_up();
    if !matches!(ended, Ended::ByServer(_)) {
        server.end().await;
    }
    let passer = passing.abort_handle();
    let flushing = async {
        // All that the server has said reaches the client.
        drop(passing.await);
        if matches!(ended, Ended::ByServer(_)) {
            session.lose_server().await;
        }
        session.end().await;
        drop(session);
        drop(writing.await);
    };
    // A client that does not read cannot keep a process that was told to stop.
    let told_to_stop = async {
        stop.cancelled().await;
        sleep(FLUSH_DEADLINE).await;
    };
    tokio::select! {
        () = flushing => {}
        () = told_to_stop => passer.abort(),
    }
    reading.abort();
    Ok(ended)
}
