//! Decisions that are born delivered, to parked polls: kill -9 and hang-ups in between.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use rand::RngExt as _;
use tokio::time::{sleep, timeout};

use super::hang_ups::{acknowledge, next_delivery};
use crate::agent::Agent;
use crate::drill::client::Client;
use crate::drill::judge::judge;
use crate::drill::load::wait_for_events;
use crate::drill::scene::{Person, Scene};
use crate::drill::service::Service;
use crate::drill::{PATIENCE, Verdict, enough};

/// Handoffs at the same time, each of an agent of its own: no decision but its own wakes a poll.
const WIDTH: usize = 8;
/// A poll is parked before its decision is sent.
const PARKED: Duration = Duration::from_millis(30);
/// A poll that hangs up does so at most so many microseconds after the decision was sent: it takes about as long.
const LONGEST_PAUSE: u64 = 8_000;
/// Handoffs from one kill to the next.
const BETWEEN_KILLS: Range<u64> = 6..24;

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether so many are finished: kills come at any moment of the handoffs after them.
const TICK: Duration = Duration::from_millis(3);

/// What handoffs came to.
#[derive(Clone, Copy, Default)]
struct Done {
    /// The parked poll brought the decision, leased in the moment in which it was made.
    born: u64,
    /// The poll was gone or got no answer: another brought it.
    missed: u64,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let mut service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, WIDTH).await?;
    let each = scene.count.div_ceil(WIDTH as u64);
    let scene = &*scene;
    let finished = &AtomicU64::new(0);
    let mut sweeper = scene.client(&service);
    let address = sweeper.address();
    let handoffs = try_join_all(agents.iter().enumerate().map(|(index, agent)| async move {
        let mut all = Done::default();
        for number in 0..each {
            let done = hand_over(scene, address, agent, &scene.operators[index], number).await?;
            all.born += done.born;
            all.missed += done.missed;
            finished.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(all)
    }));
    let mut kills = 0;
    let all = tokio::select! {
        all = handoffs => all?,
        killed = kill_now_and_then(&mut service, finished, &mut kills) => match killed? {},
    };
    // Events of a killed process go out when its claim on them has ended.
    let sweeping = async {
        loop {
            sweeper.sweep(&scene.admin).await;
            sleep(SWEEP_EVERY).await;
        }
    };
    tokio::select! {
        emptied = wait_for_events(scene, PATIENCE) => emptied?,
        () = sweeping => {}
    }
    let born: u64 = all.iter().map(|done| done.born).sum();
    let missed: u64 = all.iter().map(|done| done.missed).sum();
    let did = format!(
        "{} handoffs, {born} born delivered to their poll, {missed} whose poll hung up or was cut off, {kills} kills",
        each * WIDTH as u64
    );
    let verdict = judge(scene).await?.verdict(&did)?;
    enough(born, scene.count / 5, "decisions born delivered")?;
    enough(missed, scene.count / 10, "polls that were gone")?;
    enough(kills, scene.count / 100, "kills")?;
    Ok(verdict)
}

/// Kills the service at random moments, until it is dropped.
async fn kill_now_and_then(service: &mut Service, finished: &AtomicU64, kills: &mut u64) -> Result<Infallible> {
    loop {
        let next = finished.load(Ordering::Relaxed) + rand::rng().random_range(BETWEEN_KILLS);
        while finished.load(Ordering::Relaxed) < next {
            sleep(TICK).await;
        }
        service.kill()?;
        service.spawn()?;
        *kills += 1;
    }
}

/// One handoff. Every other poll hangs up about when its decision is made.
async fn hand_over(
    scene: &Scene<'_>,
    address: SocketAddr,
    agent: &Agent,
    operator: &Person,
    number: u64,
) -> Result<Done> {
    let mut client = Client::new(address, scene.history.clone());
    let request_id = client.submit_until_answered(agent, &format!("born-{number}")).await;
    let mut poller = Client::new(address, scene.history.clone());
    let polling = async {
        let polling = poller.poll(agent, 5, 10);
        if number.is_multiple_of(2) {
            return polling.await;
        }
        let pause = Duration::from_micros(rand::rng().random_range(0..LONGEST_PAUSE));
        timeout(PARKED + pause, polling).await.ok().flatten()
    };
    let deciding = async {
        sleep(PARKED).await;
        client.decide_until_answered(operator, &request_id, true).await;
    };
    let (told, ()) = tokio::join!(polling, deciding);
    let told = told.and_then(|mut deliveries| deliveries.pop());
    let done = match &told {
        Some(delivery) => Done { born: u64::from(delivery.is_born_with_lease_of(Duration::from_secs(1))), missed: 0 },
        None => Done { born: 0, missed: 1 },
    };
    let delivery = match told {
        Some(delivery) => delivery,
        None => next_delivery(&mut client, agent).await,
    };
    acknowledge(&mut client, agent, delivery).await;
    Ok(done)
}
