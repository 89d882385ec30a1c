//! Calls that wait: how long, and until what.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::AppState;
use crate::events::WaitsFor;
use crate::http::{PreferredWait, clamped};
use relaytrace_domain::{AgentId, Faults, KeyId, Result};
use relaytrace_store::{Caller, Leased, OnItsWay};

/// Longest wait that a call may ask for, in seconds.
const LONGEST_SECONDS: u64 = 55;
/// A waiting call looks again this often while NATS is away: the contract's 500 ms.
const LOOK_AGAIN_WITHOUT_NATS: Duration = Duration::from_millis(500);
/// And this often otherwise: a wake-up may be lost with the process that should have sent it. Each look is a statement:
/// thousands of calls wait at the same time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How many seconds a call is to wait: as the parameter says, else as `Prefer: wait=n` does, else not at all.
pub fn wait_seconds(faults: &mut Faults, parameter: Option<String>, preferred: PreferredWait) -> u64 {
    let asked = parameter.or(preferred.0);
    clamped(faults, "wait_seconds", asked.as_deref(), 0, 0, LONGEST_SECONDS)
}

/// What a look at the database found.
pub struct Look<T> {
    /// The answer, if nothing better comes.
    pub found: T,
    /// Whether it is what the call waits for.
    pub is_there: bool,
    /// When it will be there, as far as the database knows.
    pub there_in: Option<Duration>,
}

/// A look under way. Boxed: a call that is parked does not hold room for a statement.
pub type Looking<'a, T> = Pin<Box<dyn Future<Output = Result<Look<T>>> + Send + 'a>>;

/// What to look at.
pub enum At {
    /// The database, so far ahead.
    Database(Duration),
    /// What the decision's own statement has leased to this call.
    Lease(Leased),
}

/// Gets in line, looks, and waits until it is there. Postgres is read, never NATS.
///
/// # Errors
/// Those of a look, and [`RateLimited`](relaytrace_domain::Error::RateLimited) where too many calls of the agent wait and
/// it is not there at once.
pub async fn look_or_wait<'a, T>(
    state: &AppState,
    agent_id: &AgentId,
    waits_for: WaitsFor,
    longest: Duration,
    look: impl Fn(At) -> Looking<'a, T>,
) -> Result<T> {
    wait_for(state, agent_id, waits_for, None, longest, look).await
}

/// The same for a poll with this key, which a decision of this process may hand a lease.
///
/// # Errors
/// As of [`look_or_wait`].
pub async fn lease_or_wait<'a, T>(
    state: &AppState,
    caller: &Caller,
    waits_for: WaitsFor,
    longest: Duration,
    look: impl Fn(At) -> Looking<'a, T>,
) -> Result<T> {
    wait_for(state, &caller.agent_id, waits_for, Some(&caller.key_id), longest, look).await
}

async fn wait_for<'a, T>(
    state: &AppState,
    agent_id: &AgentId,
    waits_for: WaitsFor,
    taker: Option<&KeyId>,
    longest: Duration,
    look: impl Fn(At) -> Looking<'a, T>,
) -> Result<T> {
    let deadline = Instant::now() + longest;
    if longest.is_zero() {
        return Ok(look(At::Database(Duration::ZERO)).await?.found);
    }
    let mut parked = match state.events.park(agent_id, waits_for, state.store.rules().max_parked_per_agent) {
        Ok(parked) => parked,
        Err(refused) => {
            let seen = look(At::Database(Duration::ZERO)).await?;
            return if seen.is_there { Ok(seen.found) } else { Err(refused) };
        }
    };
    if let Some(key_id) = taker {
        parked.open(key_id);
    }
    let mut handed = None;
    loop {
        let look_again = if state.events.is_connected_now() { LOOK_AGAIN } else { LOOK_AGAIN_WITHOUT_NATS };
        let looked = look(handed.take().map_or(At::Database(look_again), At::Lease)).await;
        // What a decision has leased to this poll meanwhile is its answer, whatever the look says.
        if !looked.as_ref().is_ok_and(|seen| seen.is_there) {
            handed = parked.handed().and_then(OnItsWay::take);
            if handed.is_some() {
                continue;
            }
        }
        let seen = looked?;
        let left = deadline.saturating_duration_since(Instant::now());
        if seen.is_there || left.is_zero() || state.events.is_stopping() {
            return Ok(seen.found);
        }
        // What other processes announced before this one listened was missed.
        if parked.subscribed().await {
            continue;
        }
        // A moment later than it becomes visible: the database compares microseconds.
        let there_in = seen.there_in.map_or(look_again, |wait| wait + Duration::from_millis(1));
        let longest = left.min(look_again).min(there_in);
        match taker {
            Some(key_id) => handed = parked.wait_for_lease(longest, key_id).await.and_then(OnItsWay::take),
            None => drop(parked.wait(longest).await),
        }
        parked.requeue();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(parameter: Option<&str>, preferred: Option<&str>) -> (u64, usize) {
        let mut faults = Faults::default();
        let preferred = PreferredWait(preferred.map(str::to_owned));
        let seconds = wait_seconds(&mut faults, parameter.map(str::to_owned), preferred);
        (seconds, faults.listed().len())
    }

    #[test]
    fn the_parameter_wins_over_the_preference() {
        assert_eq!(waiting(None, None), (0, 0));
        assert_eq!(waiting(None, Some("30")), (30, 0));
        assert_eq!(waiting(None, Some("900")), (55, 0));
        assert_eq!(waiting(Some("7"), Some("30")), (7, 0));
        assert_eq!(waiting(Some("0"), Some("30")), (0, 0));
        assert_eq!(waiting(Some("99"), None), (55, 0));
        assert_eq!(waiting(Some("seven"), Some("30")), (0, 1));
    }
}
