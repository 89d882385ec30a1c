//! Plain HTTP: connections with limits, and an end that comes in time.
//!
//! Nothing that a caller leaves half done holds a connection for longer than its limit: a head, a body, an answer that
//! is not read, silence between two calls. After the signal to stop, calls under way have [`ServerLimits::grace`] to
//! end; then their connections are cut.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt as _;

/// What callers of the plain HTTP server may take up.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at the same time. Those after them wait to be accepted.
    pub max_connections: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// From a request's head to the last byte of its body.
    pub body_timeout: Duration,
    /// Between two requests of a connection, and without progress in writing an answer. Longer than a load balancer's,
    /// so that it is never the server who hangs up first.
    pub idle_timeout: Duration,
    /// From the signal to stop to the end of the last call.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            grace: Duration::from_secs(8),
        }
    }
}

/// Longest head of a request: a token of 16 KiB and a query of some KiB have room in it.
const MAX_HEAD: usize = 64 * 1024;
/// Pause after a connection could not be accepted, for want of file descriptors for one.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Calls under way end; then their connections do.
    Ending,
    /// Connections are dropped as they are.
    Cut,
}

/// Serves until `stop`, then lets the calls under way end, within limits.
pub(crate) async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, stop: impl Future<Output = ()>) {
    // Once: a router without its state is built anew for each connection (48 KiB).
    let router: Router = router.with_state(());
    let mut http = http1::Builder::new();
    // Whether a caller is still there while its call waits is asked by `Watched`: hyper asks with a buffer of 8 KiB.
    http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD).half_close(true);
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let (stage, _) = watch::channel(Stage::Serving);
    let accepting = async {
        while let Ok(place) = room.clone().acquire_owned().await {
            let connection = Connection { stream: accept(&listener).await, router: router.clone(), limits };
            tokio::spawn(connection.serve(http.clone(), stage.subscribe(), place));
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    drop(listener);
    stage.send_replace(Stage::Ending);
    if tokio::time::timeout(limits.grace, stage.closed()).await.is_err() {
        tracing::warn!(connections = stage.receiver_count(), "connections are cut: their calls did not end in time");
        stage.send_replace(Stage::Cut);
        stage.closed().await;
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Err(error) => {
                tracing::error!(error = %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    router: Router,
    limits: ServerLimits,
}

impl Connection {
    /// Until its end, `_place` is taken and `stage` has a receiver.
    async fn serve(self, http: http1::Builder, mut stage: watch::Receiver<Stage>, _place: OwnedSemaphorePermit) {
        let Self { stream, router, limits } = self;
        drop(stream.set_nodelay(true));
        let activity = Arc::new(Activity::new(limits));
        let calls = activity.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (router, calls) = (router.clone(), calls.clone());
            let request = request.map(|body| TimedBody::of_call(body, &calls));
            async move {
                let response = router.oneshot(request).await;
                calls.call_ends();
                response as Result<Response, Infallible>
            }
        });
        let watched = Watched { io: TokioIo::new(stream), activity, sleep: None };
        let mut connection = std::pin::pin!(http.serve_connection(watched, service));
        loop {
            tokio::select! {
                biased;
                // How it ended is the caller's business: it has the answer, or hung up.
                _ = connection.as_mut() => return,
                changed = stage.changed() => match *stage.borrow_and_update() {
                    Stage::Ending if changed.is_ok() => connection.as_mut().graceful_shutdown(),
                    _ => return,
                },
            }
        }
    }
}

/// What a connection waits for, and until when.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// For the next request's first byte, or for the caller to read the answer.
    Idle(Instant),
    /// For the rest of a request's head.
    Head(Instant),
    /// For the rest of a request's body, which has a deadline of its own.
    Body,
    /// For ourselves: a caller who hangs up now has no use for the answer.
    Call,
}

#[derive(Debug)]
struct Activity {
    limits: ServerLimits,
    waiting: Mutex<Waiting>,
}

impl Activity {
    fn new(limits: ServerLimits) -> Self {
        Self { limits, waiting: Mutex::new(Waiting::Idle(Instant::now() + limits.idle_timeout)) }
    }

    fn change(&self, to: impl FnOnce(Waiting) -> Waiting) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = to(*waiting);
    }

    fn call_begins(&self, has_body: bool) {
        self.change(|_| if has_body { Waiting::Body } else { Waiting::Call });
    }

    fn body_ends(&self) {
        self.change(|waiting| match waiting {
            Waiting::Body => Waiting::Call,
            other => other,
        });
    }

    fn call_ends(&self) {
        self.change(|_| Waiting::Idle(Instant::now() + self.limits.idle_timeout));
    }

    fn has_read(&self) {
        self.change(|waiting| match waiting {
            Waiting::Idle(_) => Waiting::Head(Instant::now() + self.limits.header_timeout),
            other => other,
        });
    }

    fn has_written(&self) {
        self.change(|waiting| match waiting {
            Waiting::Idle(_) => Waiting::Idle(Instant::now() + self.limits.idle_timeout),
            other => other,
        });
    }

    fn waiting(&self) -> Waiting {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Option<Instant> {
        match self.waiting() {
            Waiting::Idle(deadline) | Waiting::Head(deadline) => Some(deadline),
            Waiting::Body | Waiting::Call => None,
        }
    }
}

/// A connection's socket, which fails when the deadline of its current wait has passed, and when its caller hangs up
/// during a call.
struct Watched {
    io: TokioIo<TcpStream>,
    activity: Arc<Activity>,
    /// Set again only when it has run out too early, or would too late: not for each request.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    /// Notes progress, or says that there was none for too long.
    fn judge<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
        progress: fn(&Activity),
    ) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(Ok(_)) => progress(&self.activity),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if let Some(deadline) = self.activity.deadline()
                    && is_over(&mut self.sleep, deadline, context)
                {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        outcome
    }

    /// Whether the caller has hung up during its call; else the task is woken then. A caller that sends on is there.
    fn has_hung_up(&self, context: &mut Context<'_>) -> bool {
        if !matches!(self.activity.waiting(), Waiting::Call) {
            return false;
        }
        let mut byte = [0];
        match self.io.inner().poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(sent)) => sent == 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }
}

/// Whether the deadline has passed; else the task is woken then.
fn is_over(sleep: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, context: &mut Context<'_>) -> bool {
    let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
    if sleep.deadline() > deadline {
        sleep.as_mut().reset(deadline);
    }
    while sleep.as_mut().poll(context).is_ready() {
        if Instant::now() >= deadline {
            return true;
        }
        sleep.as_mut().reset(deadline);
    }
    false
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        self.judge(outcome, context, Activity::has_read)
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(outcome, context, Activity::has_written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.judge(outcome, context, Activity::has_written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Asked for whenever the connection's task has nothing more to do.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_hung_up(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A request's body, which fails once it has taken too long.
struct TimedBody {
    body: Incoming,
    activity: Arc<Activity>,
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    /// The body of a call that begins.
    fn of_call(body: Incoming, activity: &Arc<Activity>) -> Body {
        let has_body = !body.is_end_stream();
        activity.call_begins(has_body);
        if !has_body {
            return Body::empty();
        }
        let deadline = Instant::now() + activity.limits.body_timeout;
        Body::new(Self { body, activity: activity.clone(), deadline, sleep: None })
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                if frame.is_none() || this.body.is_end_stream() {
                    this.activity.body_ends();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if is_over(&mut this.sleep, this.deadline, context) => {
                Poll::Ready(Some(Err("the body did not arrive in time".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
