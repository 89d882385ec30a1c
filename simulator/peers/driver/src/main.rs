//! One load for two services: a request is submitted, an agent waits for it, an operator decides, the agent has the answer.
//!
//! Each measurement is a line of JSON: `test`, `c` (connections), `n`, `per_s`, `p50_ms`, `p99_ms`.

mod services;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use futures_util::future::try_join_all;
use services::{Service, Ticket};
use tokio::sync::Mutex;

/// What to measure, and at whom.
#[derive(Debug, Parser)]
struct Options {
    /// The service.
    #[arg(value_enum)]
    service: services::Kind,
    /// Calls that are under way at the same time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests of the phases.
    #[arg(long, default_value_t = 4_000)]
    requests: usize,
    /// Seconds of the loops and of the parked agents.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Agents that wait at the same time.
    #[arg(long, default_value_t = 200)]
    parked: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let service = Arc::new(Service::from_environment(options.service)?);
    one_handoff(&service).await?;
    phases(&service, &options).await?;
    loops(&service, &options).await?;
    parked(&service, &options).await
}

/// What cannot do one handoff is not measured.
async fn one_handoff(service: &Arc<Service>) -> Result<()> {
    let ticket = service.submit().await?;
    let waiting = tokio::spawn({
        let (service, ticket) = (service.clone(), ticket.clone());
        async move { service.wait(&ticket).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.resolve(&ticket).await?;
    waiting.await?
}

/// All requests are submitted, then all decided, then each answer fetched, then looked at.
async fn phases(service: &Arc<Service>, options: &Options) -> Result<()> {
    let tickets: Arc<Mutex<Vec<Ticket>>> = Arc::default();
    let (asked, kept) = (service.clone(), tickets.clone());
    let submitted = each(options, options.requests, move |_| {
        let (service, tickets) = (asked.clone(), kept.clone());
        async move {
            let ticket = service.submit().await?;
            tickets.lock().await.push(ticket);
            Ok(())
        }
    });
    submitted.await?.report("submit", options.connections);
    let tickets = Arc::new(std::mem::take(&mut *tickets.lock().await));
    for step in [Step::Resolve, Step::Fetch, Step::Look] {
        let (service, tickets) = (service.clone(), tickets.clone());
        let measured = each(options, options.requests, move |number| {
            let (service, tickets) = (service.clone(), tickets.clone());
            async move {
                match step {
                    Step::Resolve => service.resolve(&tickets[number]).await,
                    Step::Fetch => service.wait(&tickets[number]).await,
                    Step::Look => service.look(&tickets[number]).await,
                }
            }
        });
        measured.await?.report(step.name(), options.connections);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Resolve,
    Fetch,
    Look,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Fetch => "fetch",
            Self::Look => "look",
        }
    }
}

/// Whole handoffs, one after the other on each connection; the agent waits while the operator decides.
async fn loops(service: &Arc<Service>, options: &Options) -> Result<()> {
    let began = Instant::now();
    let end = began + Duration::from_secs(options.seconds);
    let workers = (0..options.connections).map(|_| {
        let service = service.clone();
        tokio::spawn(async move {
            let (mut cycles, mut answers) = (Vec::new(), Vec::new());
            while Instant::now() < end {
                let submitted_at = Instant::now();
                let ticket = service.submit().await?;
                let waiting = tokio::spawn({
                    let (service, ticket) = (service.clone(), ticket.clone());
                    async move { service.wait(&ticket).await.map(|()| Instant::now()) }
                });
                let resolved_at = Instant::now();
                service.resolve(&ticket).await?;
                answers.push(waiting.await?? - resolved_at);
                cycles.push(submitted_at.elapsed());
            }
            anyhow::Ok((cycles, answers))
        })
    });
    let (mut cycles, mut answers) = (Vec::new(), Vec::new());
    for worker in try_join_all(workers).await? {
        let (some_cycles, some_answers) = worker?;
        cycles.extend(some_cycles);
        answers.extend(some_answers);
    }
    let took = began.elapsed();
    Times { took, each: cycles }.report("loop_cycle", options.connections);
    Times { took, each: answers }.report("loop_resolve_to_agent", options.connections);
    Ok(())
}

/// Agents wait first; then operators decide, so many at the same time.
async fn parked(service: &Arc<Service>, options: &Options) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let (mut answers, mut took) = (Vec::new(), Duration::ZERO);
    while Instant::now() < end {
        let (mut tickets, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..options.parked {
            let ticket = service.submit().await?;
            tickets.push(ticket.clone());
            let service = service.clone();
            waiting.push(tokio::spawn(async move { service.wait(&ticket).await.map(|()| Instant::now()) }));
        }
        // Until each of them is parked.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let resolved_at = Arc::new(Mutex::new(vec![None; options.parked]));
        let (tickets, alone) = (Arc::new(tickets), options.connections == 1);
        let (asked, noted) = (service.clone(), resolved_at.clone());
        let resolved = each(options, options.parked, move |number| {
            let (service, tickets, resolved_at) = (asked.clone(), tickets.clone(), noted.clone());
            async move {
                resolved_at.lock().await[number] = Some(Instant::now());
                service.resolve(&tickets[number]).await?;
                if alone {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(())
            }
        });
        took += resolved.await?.took;
        for (number, waiting) in waiting.into_iter().enumerate() {
            let answered_at = waiting.await??;
            answers.extend(resolved_at.lock().await[number].map(|resolved_at| answered_at - resolved_at));
        }
    }
    Times { took, each: answers }.report("parked_resolve_to_agent", options.connections);
    Ok(())
}

/// How long all took together, and each by itself.
struct Times {
    took: Duration,
    each: Vec<Duration>,
}

impl Times {
    fn report(mut self, test: &str, connections: usize) {
        self.each.sort_unstable();
        let share = |numerator: usize, denominator: usize| {
            let at = self.each.len().saturating_sub(1) * numerator / denominator;
            self.each.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
        };
        let measured = serde_json::json!({
            "test": test, "c": connections, "n": self.each.len(),
            "per_s": self.each.len() as f64 / self.took.as_secs_f64(),
            "p50_ms": share(1, 2), "p99_ms": share(99, 100),
        });
        println!("{measured}");
    }
}

/// Does so many things, as many at a time as there are connections.
async fn each<F, W>(options: &Options, things: usize, work: F) -> Result<Times>
where
    F: Fn(usize) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let began = Instant::now();
    let workers = (0..options.connections).map(|_| {
        let (next, work) = (next.clone(), work.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= things {
                    return anyhow::Ok(times);
                }
                let began = Instant::now();
                work(number).await?;
                times.push(began.elapsed());
            }
        })
    });
    let mut all = Vec::with_capacity(things);
    for times in try_join_all(workers).await? {
        all.extend(times?);
    }
    Ok(Times { took: began.elapsed(), each: all })
}
