//! Operators' answers: each decides its request, or is a vote where one approval is not enough (contract, "Votes").
//!
//! `decide.sql` takes what decides: the answer of a request that needs one approval, a rejection, and the last of several
//! approvals. Only what it leaves, and what nothing stands against, is a vote. A race may make a vote the last one: then
//! `vote.sql` leaves it, and the next round decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use relaytrace_domain::{Error, KeyId, RequestId, Result, Verdict};

use crate::OutboxEvent;
use crate::batches::{Row, alone};
use crate::decisions::{Attested, Decided, Deciding};
use crate::leases::OnItsWay;
use crate::standing::{Standing, Stands};
use crate::votes::Voting;
use crate::writers::{Batched, Store};

/// Rounds of an answer: each that ends without a result was overtaken by another vote, of at most ten.
const ROUNDS: usize = 12;
/// No round begins after this time.
const ROUNDS_WITHIN: Duration = Duration::from_secs(5);

/// What an answer became.
#[derive(Debug)]
pub struct Answered {
    /// The decision as it stands, or the vote.
    pub verdict: Verdict,
    /// Its event; `None` for a repeated call.
    pub event: Option<OutboxEvent>,
    /// Its delivery, leased by the same statement to the poll that was named.
    pub leased: Option<OnItsWay>,
}

impl From<Decided> for Answered {
    fn from(Decided { decision, event, leased }: Decided) -> Self {
        Self { verdict: Verdict::Decided(Box::new(decision)), event, leased }
    }
}

impl From<Stands> for Option<Answered> {
    /// `None`: it is to be a vote.
    fn from(stands: Stands) -> Self {
        let verdict = match stands {
            Stands::Decided(decision) => Verdict::Decided(decision),
            Stands::Voted(voted) => Verdict::Voted(voted),
            Stands::NeedsVotes => return None,
        };
        Some(Answered { verdict, event: None, leased: None })
    }
}

/// An answer, and the key of a parked poll that may take its decision.
pub type Answering = (Deciding, Option<KeyId>);

/// The answers of one call, with the results so far.
struct Round<'a> {
    store: &'a Store,
    answers: &'a [Answering],
    results: Vec<Option<Result<Answered>>>,
}

impl Store {
    /// Records one operator's answers to different requests, each as if it were the only one, by statements that they
    /// share. Every answer has a result, in their order.
    ///
    /// # Errors
    /// None as a whole. Each result: [`Error::NotFound`], or the first that applies of [`Error::AlreadyDecided`] (but for
    /// the same answer by the same operator), [`Error::Expired`], [`Error::ActionMismatch`], [`Error::Invalid`],
    /// [`Error::Conflict`], [`Error::Frozen`], [`Error::OwnRequest`] and [`Error::AlreadyVoted`].
    pub async fn answer(&self, answers: &[Answering]) -> Vec<Result<Answered>> {
        let mut round = Round { store: self, answers, results: answers.iter().map(|_| None).collect() };
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let rest = round.decide().await;
            let rest = round.compare(rest).await;
            round.vote(rest).await;
            if round.results.iter().all(Option::is_some) || started.elapsed() > ROUNDS_WITHIN {
                break;
            }
        }
        let overtaken = || Err(Error::Unavailable(anyhow!("other votes were faster each time")));
        round.results.into_iter().map(|result| result.unwrap_or_else(overtaken)).collect()
    }

    /// Writes rows of different keys: one in a batch with those of other calls, several with a statement of their own.
    async fn write_all<R: Row>(
        &self,
        batches: fn(&Batched) -> &crate::batches::Batches<R>,
        rows: &[Arc<R>],
    ) -> Vec<Result<Option<R::Written>>> {
        match rows {
            [] => return Vec::new(),
            [row] => return vec![self.write(batches, row).await],
            _ => {}
        }
        match R::write(self, &rows.iter().map(|row| &**row).collect::<Vec<_>>()).await {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(Error::Unavailable(source)) => {
                let source = Arc::new(Error::Unavailable(source));
                rows.iter().map(|_| Err(Error::Unavailable(source.clone().into()))).collect()
            }
            // Perhaps one row's fault: each is to find out by itself.
            Err(_) => {
                let mut written = Vec::with_capacity(rows.len());
                for row in rows {
                    written.push(alone(self, &**row).await);
                }
                written
            }
        }
    }
}

impl Round<'_> {
    /// Decides what its answer decides. Returns the places of the others.
    async fn decide(&mut self) -> Vec<usize> {
        let (mut places, mut rows) = (Vec::new(), Vec::new());
        for place in 0..self.answers.len() {
            if self.results[place].is_none() {
                match self.attested(place).await {
                    Ok(Some(row)) => {
                        places.push(place);
                        rows.push(Arc::new(row));
                    }
                    Ok(None) => {}
                    Err(error) => self.results[place] = Some(Err(error)),
                }
            }
        }
        let written = self.store.write_all(|batched| &batched.deciding, &rows).await;
        let mut rest = Vec::new();
        for (place, written) in places.into_iter().zip(written) {
            match written.transpose() {
                Some(decided) => self.results[place] = Some(decided.map(Answered::from)),
                None => rest.push(place),
            }
        }
        rest
    }

    /// The answer as a signed decision; `None`: it has its result. Where the operator did not name the action, its digest
    /// is remembered or looked up, and a request that takes votes refuses it.
    async fn attested(&mut self, place: usize) -> Result<Option<Attested>> {
        let (deciding, taker) = &self.answers[place];
        let known = deciding.action_digest.or_else(|| self.store.actions.get(&deciding.request_id));
        let action_digest = if let Some(digest) = known {
            digest
        } else {
            let standing = self.store.standing(&deciding.by, &[deciding.request_id]).await?;
            let standing = standing.into_iter().next().ok_or(Error::NotFound)?;
            if standing.approvals.are_several() && deciding.is_approval() {
                let unnamed = || Error::internal(anyhow!("a vote on nothing"));
                let answered = standing.against(deciding).and_then(|stands| Option::from(stands).ok_or_else(unnamed));
                self.results[place] = Some(answered);
                return Ok(None);
            }
            standing.action_digest
        };
        let attested = deciding.clone().attested(&self.store.attestor, action_digest)?;
        Ok(Some(attested.taken_by(taker.as_ref())))
    }

    /// Finds out why these were not decided. Returns the places of those that are to be votes.
    async fn compare(&mut self, places: Vec<usize>) -> Vec<usize> {
        let Some(&first) = places.first() else { return places };
        let request_ids: Vec<_> = places.iter().map(|place| self.answers[*place].0.request_id).collect();
        let standing = match self.store.standing(&self.answers[first].0.by, &request_ids).await {
            Ok(standing) => standing,
            Err(error) => {
                self.fail(&places, error);
                return Vec::new();
            }
        };
        let mut standing: HashMap<RequestId, Standing> = standing.into_iter().map(|it| (it.request_id, it)).collect();
        places
            .into_iter()
            .filter(|place| {
                let deciding = &self.answers[*place].0;
                let stands = standing.remove(&deciding.request_id).ok_or(Error::NotFound);
                let result = stands.and_then(|standing| standing.against(deciding)).map(Option::from).transpose();
                let is_vote = result.is_none();
                self.results[*place] = result;
                is_vote
            })
            .collect()
    }

    /// Notes these as votes. What others have made the last one is left for the next round.
    async fn vote(&mut self, places: Vec<usize>) {
        let mut rows = Vec::with_capacity(places.len());
        for place in &places {
            match Voting::attested(&self.answers[*place].0, &self.store.attestor) {
                Ok(row) => rows.push(Arc::new(row)),
                Err(error) => return self.fail(&places, error),
            }
        }
        let written = self.store.write_all(|batched| &batched.voting, &rows).await;
        for (place, written) in places.into_iter().zip(written) {
            let answered =
                |(voted, event)| Answered { verdict: Verdict::Voted(voted), event: Some(event), leased: None };
            self.results[place] = written.map(|noted| noted.map(answered)).transpose();
        }
    }

    fn fail(&mut self, places: &[usize], error: Error) {
        let error = Arc::new(error);
        for place in places {
            self.results[*place] = Some(Err(match &*error {
                Error::Unavailable(_) => Error::Unavailable(error.clone().into()),
                _ => Error::internal(error.clone()),
            }));
        }
    }
}
