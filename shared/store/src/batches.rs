//! Natural batching (plain HTTP only): rows that are queued while a statement runs go into the next one, together.
//!
//! No row waits for a batch to fill: where no statement is under way, it is sent at once, alone. The statement is the
//! same for one row and for many. A row that the batch cannot write is retried with a statement of its own, so that
//! each caller gets its own answer: rows of one key after the first (a statement must not touch a row twice), and every
//! row of a batch that the database refused.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::database::Database;
use crate::measures::BatchKind;
use relaytrace_domain::RequestId;
use relaytrace_domain::{Error, Result};

/// Tasks that write rows of one kind, each with a statement under way at the most.
///
/// The next begins when the statement before has ended or has taken `ITS_TURN`: fewer and longer statements as long as
/// the database answers at once, and no standstill behind a slow disk or a lock.
pub const WRITERS: usize = 2;
/// How long the first writer's statement may run before the second writer starts.
const ITS_TURN: Duration = Duration::from_millis(10);
/// Rows of a statement at the most.
const MOST_ROWS: usize = 64;
/// Bytes of a statement's rows at the most, where it is more than one row.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// Longest wait of a row until a statement takes it. From then on it is answered when that statement is.
const QUEUE_DEADLINE: Duration = Duration::from_secs(1);
/// At most so many KiB of rows are queued or being written; new callers then get 503.
const ROOM: usize = 16 * 1024;

/// A row of a statement that is written over arrays.
pub(super) trait Row: Send + Sync + Sized + 'static {
    /// The result of a written row.
    type Written: Send + 'static;
    /// Rows of one key never meet in a statement.
    type Key<'a>: Eq + Hash;
    /// What its statements are measured as.
    const KIND: BatchKind;

    /// Its key.
    fn key(&self) -> Self::Key<'_>;

    /// About how many bytes it has.
    fn size(&self) -> usize;

    /// Waits until a statement can be sent.
    fn ready(database: &Database) -> impl Future<Output = Result<()>> + Send {
        database.connections.ready()
    }

    /// The one statement: what each row wrote, in their order; `None`: nothing.
    fn write(database: &Database, rows: &[&Self]) -> impl Future<Output = Result<Vec<Option<Self::Written>>>> + Send;
}

/// Where rows of one kind wait. Its writers start with the first row.
#[derive(Debug)]
pub(super) struct Batches<R: Row> {
    queue: OnceLock<UnboundedSender<Waiting<R>>>,
    room: Arc<Semaphore>,
}

impl<R: Row> Default for Batches<R> {
    fn default() -> Self {
        Self { queue: OnceLock::new(), room: Arc::new(Semaphore::new(ROOM)) }
    }
}

struct Waiting<R: Row> {
    row: Arc<R>,
    turn: Arc<Turn>,
    answer: oneshot::Sender<Answer<R::Written>>,
    _room: OwnedSemaphorePermit,
}

/// Whether a row is still to be written, decided once: by the statement that takes it or by the caller that gives it up.
/// So a row whose caller was told that it was not written is not written later.
#[derive(Debug, Default)]
struct Turn(AtomicBool);

impl Turn {
    /// `false`: the other was first.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

enum Answer<T> {
    Written(Option<T>),
    /// It is to be written with a statement of its own.
    Alone,
    /// The database is away, or refused it where it was the only row.
    Failed(Error),
}

impl<R: Row> Batches<R> {
    /// Writes a row, together with other queued rows. Where its caller hangs up while it is queued, it is not written.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where too much waits, or the time of a statement has passed; and those of the statement.
    pub(super) async fn write(&self, database: &Database, row: Arc<R>) -> Result<Option<R::Written>> {
        let kibibytes = u32::try_from(row.size() / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kibibytes);
        let room = room.map_err(|_| Error::Unavailable(anyhow!("too many writes wait already")))?;
        let (answer, mut answered) = oneshot::channel();
        let turn = Arc::new(Turn::default());
        let queue = self.queue.get_or_init(|| start::<R>(database));
        drop(queue.send(Waiting { row: row.clone(), turn: turn.clone(), answer, _room: room }));
        let answer = match timeout(QUEUE_DEADLINE, &mut answered).await {
            Ok(answer) => answer,
            Err(_) if turn.take() => {
                return Err(Error::Unavailable(anyhow!("no statement took a write within {QUEUE_DEADLINE:?}")));
            }
            // Its statement is under way, and bounded.
            Err(_) => answered.await,
        };
        match answer {
            Ok(Answer::Written(written)) => Ok(written),
            Ok(Answer::Alone) => alone(database, &*row).await,
            Ok(Answer::Failed(error)) => Err(error),
            Err(_) => Err(Error::internal(anyhow!("a writer dropped a row"))),
        }
    }
}

impl<R: Row> Batches<R> {
    /// KiB that wait or are being written.
    pub(super) fn waiting(&self) -> usize {
        ROOM - self.room.available_permits()
    }
}

/// Writes a row with a statement of its own.
pub(super) async fn alone<R: Row>(database: &Database, row: &R) -> Result<Option<R::Written>> {
    database.measures.sent(R::KIND, 1);
    // Boxed: few rows are written so, and every one that waits would hold 12 KiB of room for it.
    Ok(Box::pin(R::write(database, &[row])).await?.pop().flatten())
}

/// The rows as a statement takes them that locks one row after the other, as they stand in its arrays: many in key order.
pub(super) fn in_key_order<'a, R: Row>(rows: &[&'a R]) -> Vec<&'a R>
where
    R::Key<'a>: Ord,
{
    let mut rows = rows.to_vec();
    rows.sort_unstable_by_key(|row| row.key());
    rows
}

/// One parameter of the statement: a value of each row.
pub(super) fn column<'a, R, T>(rows: &[&'a R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// The same where few rows have a value: nothing is sent where none has. An absent array is as many nulls as the others
/// have elements (`UNNEST`).
pub(super) fn sparse<'a, R, T>(rows: &[&'a R], value: impl Fn(&'a R) -> Option<T>) -> Option<Vec<Option<T>>> {
    let values = column(rows, value);
    values.iter().any(Option::is_some).then_some(values)
}

/// What each row wrote, in their order, of what the statement returned.
pub(super) fn in_order<R, W>(
    rows: &[&R],
    request_id: impl Fn(&R) -> RequestId,
    written: impl IntoIterator<Item = (RequestId, W)>,
) -> Vec<Option<W>> {
    let mut written: HashMap<_, _> = written.into_iter().collect();
    rows.iter().map(|row| written.remove(&request_id(row))).collect()
}

fn start<R: Row>(database: &Database) -> UnboundedSender<Waiting<R>> {
    let (sender, receiver) = unbounded_channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..WRITERS {
        tokio::spawn(write_what_waits(database.clone(), receiver.clone()));
    }
    sender
}

async fn write_what_waits<R: Row>(database: Database, queue: Arc<Mutex<UnboundedReceiver<Waiting<R>>>>) {
    let mut taken = Vec::with_capacity(MOST_ROWS);
    loop {
        let mut turn = queue.lock().await;
        if turn.recv_many(&mut taken, MOST_ROWS).await == 0 {
            return;
        }
        // A panic ends the calls that were in that statement, not the writer.
        let mut written = pin!(AssertUnwindSafe(write_all(&database, &mut taken)).catch_unwind());
        if timeout(ITS_TURN, &mut written).await.is_err() {
            drop(turn);
            drop(written.await);
        }
    }
}

async fn write_all<R: Row>(database: &Database, taken: &mut Vec<Waiting<R>>) {
    while !taken.is_empty() {
        let rest = taken.split_off(within_bounds(taken));
        write_together(database, std::mem::replace(taken, rest)).await;
    }
}

/// How many of the first rows one statement takes: one at the least.
fn within_bounds<R: Row>(waiting: &[Waiting<R>]) -> usize {
    let mut bytes = 0;
    let too_long = waiting.iter().position(|waiting| {
        bytes += waiting.row.size();
        bytes > MOST_BYTES
    });
    too_long.map_or(waiting.len(), |at| at.max(1))
}

async fn write_together<R: Row>(database: &Database, mut batch: Vec<Waiting<R>>) {
    // Until there is a connection, rows go on waiting for their turn, no longer than `QUEUE_DEADLINE` in all: the time
    // that a server without an answer costs is not added to the time in the queue.
    let ready = R::ready(database).await;
    batch.retain(|waiting| !waiting.answer.is_closed() && waiting.turn.take());
    if batch.is_empty() {
        return;
    }
    let (batch, others) = first_of_each_key(batch);
    let rows: Vec<&R> = batch.iter().map(|waiting| &*waiting.row).collect();
    let written = match ready {
        Ok(()) => {
            database.measures.sent(R::KIND, rows.len());
            R::write(database, &rows).await
        }
        Err(error) => Err(error),
    };
    let answers: Vec<_> = match written {
        Ok(written) => written.into_iter().map(Answer::Written).collect(),
        Err(error) if rows.len() == 1 => vec![Answer::Failed(error)],
        Err(error @ Error::Unavailable(_)) => {
            let error = Arc::new(error);
            rows.iter().map(|_| Answer::Failed(Error::Unavailable(error.clone().into()))).collect()
        }
        // Perhaps one row's fault: each is to find out by itself.
        Err(_) => rows.iter().map(|_| Answer::Alone).collect(),
    };
    for (waiting, answer) in batch.into_iter().zip(answers) {
        drop(waiting.answer.send(answer));
    }
    // The rows that they will find are committed by now.
    for waiting in others {
        drop(waiting.answer.send(Answer::Alone));
    }
}

/// The first row of each key, and the others.
fn first_of_each_key<R: Row>(batch: Vec<Waiting<R>>) -> (Vec<Waiting<R>>, Vec<Waiting<R>>) {
    let mut keys = HashSet::with_capacity(batch.len());
    let is_first: Vec<bool> = batch.iter().map(|waiting| keys.insert(waiting.row.key())).collect();
    drop(keys);
    let mut is_first = is_first.into_iter();
    batch.into_iter().partition(|_| is_first.next() == Some(true))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;
    use relaytrace_domain::Clock;

    /// The database of these tests: statements that it was sent, and how many it may answer.
    #[derive(Default)]
    struct Answering {
        statements: Mutex<Vec<Vec<u32>>>,
        answers: Option<Semaphore>,
    }

    /// Writing it panics.
    const UNLUCKY: u32 = 13;

    struct Number {
        number: u32,
        size: usize,
        database: Arc<Answering>,
    }

    impl Row for Number {
        type Written = u32;
        type Key<'a> = u32;
        const KIND: BatchKind = BatchKind::Submit;

        fn key(&self) -> u32 {
            self.number
        }

        fn size(&self) -> usize {
            self.size
        }

        async fn ready(_: &Database) -> Result<()> {
            Ok(())
        }

        async fn write(_: &Database, rows: &[&Self]) -> Result<Vec<Option<u32>>> {
            assert!(rows.iter().all(|row| row.number != UNLUCKY), "a panic on purpose");
            let database = &rows[0].database;
            database.statements.lock().unwrap().push(rows.iter().map(|row| row.number).collect());
            if let Some(answers) = &database.answers {
                answers.acquire().await.unwrap().forget();
            }
            Ok(rows.iter().map(|row| Some(row.number)).collect())
        }
    }

    struct Writing {
        store: Database,
        batches: Arc<Batches<Number>>,
        database: Arc<Answering>,
    }

    impl Writing {
        /// Every writer waits for its answer.
        async fn blocked() -> (Self, Vec<tokio::task::JoinHandle<Result<Option<u32>>>>) {
            let store = Database::connect_lazily("postgres://127.0.0.1:9".parse().unwrap(), 1, Clock::system());
            let database = Answering { answers: Some(Semaphore::new(0)), ..Answering::default() };
            let writing = Self { store, batches: Arc::default(), database: Arc::new(database) };
            let mut calls = Vec::new();
            for number in 0..WRITERS {
                calls.push(writing.call(u32::try_from(number).unwrap(), 1));
                while writing.statements().len() <= number {
                    tokio::task::yield_now().await;
                }
            }
            (writing, calls)
        }

        fn call(&self, number: u32, size: usize) -> tokio::task::JoinHandle<Result<Option<u32>>> {
            let row = Arc::new(Number { number, size, database: self.database.clone() });
            let (store, batches) = (self.store.clone(), self.batches.clone());
            tokio::spawn(async move { batches.write(&store, row).await })
        }

        fn statements(&self) -> Vec<Vec<u32>> {
            self.database.statements.lock().unwrap().clone()
        }

        fn answer(&self) {
            self.database.answers.as_ref().unwrap().add_permits(1_000);
        }
    }

    const MIB: usize = 1024 * 1024;

    #[tokio::test]
    async fn statements_are_bounded_in_rows_and_bytes() {
        let (writing, mut calls) = Writing::blocked().await;
        calls
            .extend([700_000, 700_000, 700_000, 3 * MIB, 10].iter().zip(100..).map(|(size, n)| writing.call(n, *size)));
        calls.extend((200..200 + 70).map(|number| writing.call(number, 1)));
        tokio::task::yield_now().await;
        writing.answer();
        for call in calls {
            assert!(call.await.unwrap().unwrap().is_some());
        }
        let mut statements = writing.statements().split_off(WRITERS);
        statements.sort();
        let lengths: Vec<_> = statements.iter().map(Vec::len).collect();
        assert_eq!((&statements[0], &statements[1], &statements[2]), (&vec![100, 101], &vec![102], &vec![103]));
        assert_eq!(lengths[3..], [1 + 59, 11], "64 rows were taken at once, the rest of the bytes by the next");
    }

    #[tokio::test]
    async fn where_too_much_waits_one_is_told_to_come_back() {
        let (writing, mut calls) = Writing::blocked().await;
        // Each takes a KiB more than it has.
        calls.extend((100..115).map(|number| writing.call(number, MIB - 1024)));
        tokio::task::yield_now().await;
        let refused = writing.call(200, MIB).await.unwrap();
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        calls.push(writing.call(201, 1));
        writing.answer();
        for call in calls {
            assert!(call.await.unwrap().unwrap().is_some());
        }
        assert_eq!(writing.batches.room.available_permits(), ROOM);
    }

    #[tokio::test]
    async fn who_hung_up_writes_nothing_and_a_key_comes_once() {
        let (writing, mut calls) = Writing::blocked().await;
        let hung_up = writing.call(100, 1);
        calls.extend([101, 101, 102].map(|number| writing.call(number, 1)));
        tokio::task::yield_now().await;
        hung_up.abort();
        assert!(hung_up.await.is_err());
        writing.answer();
        for call in calls {
            assert!(call.await.unwrap().unwrap().is_some());
        }
        assert_eq!(writing.statements().split_off(WRITERS), [vec![101, 102], vec![101]]);
    }

    #[tokio::test]
    async fn a_panic_ends_its_calls_and_not_the_writers() {
        let store = Database::connect_lazily("postgres://127.0.0.1:9".parse().unwrap(), 1, Clock::system());
        let writing = Writing { store, batches: Arc::default(), database: Arc::default() };
        for _ in 0..=WRITERS {
            let failed = writing.call(UNLUCKY, 1).await.unwrap();
            assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
        }
        assert_eq!(writing.call(1, 1).await.unwrap().unwrap(), Some(1));
    }
}
