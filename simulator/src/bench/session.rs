//! One bench from the first agent to the last figure.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::cpu::{Usage, usage};
use super::database::{Database, Programs, Ran};
use super::floor::Side;
use super::handoffs::{self, End, Handoffs};
use super::kind::Kind;
use super::latency::{self, Latency};
use super::load::{self, Load, Measured};
use super::named::{self, Named, Rates};
use super::report::{Report, Row, Sample, Table};
use super::rows::{ASKERS, Batch, FEW, Group, HANDLERS, IDLERS, MANY, POLLERS, STEP, WAITERS};
use super::rules::{self, BesideRules};
use super::scripts::Scripts;
use super::stack::Stack;
use super::{Options, Part, growth, memory, stream, trial};
use crate::agent::Agent;
use crate::http::Connection;

const WARM_UP: Duration = Duration::from_secs(1);
/// What pgbench is taken to submit each second where that was not measured.
const LIKELY_SUBMITS: f64 = 15_000.0;
/// Rows prepared, for each that was needed the last time.
const SPARE: f64 = 1.25;
/// Each time with twice the rows.
const TRIES: usize = 5;

/// Both sides, with what they share.
pub struct Session<'a> {
    options: &'a Options,
    stack: &'a Stack,
    service: Side<'a>,
    floor: Side<'a>,
    /// In the order of [`GROUPS`].
    agents: Vec<Arc<Vec<Agent>>>,
    batches: u32,
    /// pgbench's rate of submissions per second.
    submits: f64,
}

const GROUPS: [Group; 7] = [ASKERS, POLLERS, IDLERS, WAITERS, HANDLERS, FEW, MANY];

/// Rows to work on.
struct Stock {
    batch: Batch,
    /// Prepared in the service's database and in the other.
    service: u64,
    floor: u64,
}

impl<'a> Session<'a> {
    /// Registers the agents and makes pgbench's database.
    pub async fn prepare(
        options: &'a Options,
        programs: Programs,
        scripts: &'a Scripts,
        stack: &'a Stack,
    ) -> Result<Self> {
        let database = Database::at(programs, &stack.database_url)?;
        let floor = Side { database: database.sibling("floor"), scripts, folder: stack.folder(), name: "floor" };
        let service = Side { database, name: "service", ..floor.clone() };

        let mut connection = Connection::open(stack.address).await?;
        let mut agents = Vec::new();
        for group in GROUPS {
            let mut registered = Vec::with_capacity(group.size);
            for index in 0..group.size {
                registered.push(Agent::register(&mut connection, &stack.admin, group.agent_id(index)).await?);
            }
            agents.push(Arc::new(registered));
        }
        let count = agents.iter().map(|group| group.len()).sum::<usize>();
        eprintln!("{count} agents are registered.");
        floor.create_like(&service.database, &options.checkout.join("migrations")).await?;
        Ok(Self { options, stack, service, floor, agents, batches: 0, submits: LIKELY_SUBMITS })
    }

    /// Measures everything that was asked for.
    pub async fn run(mut self) -> Result<Report> {
        let asked = |part: Part| part.is_asked_for(self.options);
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| asked(kind.part())).collect();
        let mut report = Report { seconds: self.options.seconds, runs: self.options.runs, ..Report::default() };
        for connections in self.options.connections.iter().copied().map(usize::from) {
            if kinds.is_empty() {
                break;
            }
            let name = format!("{connections} connections");
            let rows = self.measure_kinds(&kinds, connections).await?;
            report.tables.push(Table { name, rows, has_bounds: true, stored: None });
        }
        if asked(Part::NamedPoll) {
            report.named = self.measure_named().await.context("while measuring polls that name a request")?;
        }
        if asked(Part::Rules) {
            report.rules = Some(self.measure_rules().await.context("while measuring submissions beside rules")?);
        }
        if asked(Part::SlowFlush) {
            report.tables.extend(self.measure_with_slow_flushes().await?);
        }
        for handoffs in 0..if asked(Part::Handoffs) { self.options.runs } else { 0 } {
            eprintln!("whole handoffs {}/{} …", handoffs + 1, self.options.runs);
            let acknowledged = self.measure_handoffs(End::Acknowledge).await;
            report.handoffs.push(acknowledged.context("while measuring whole handoffs")?);
            let used = self.measure_handoffs(End::Use).await;
            report.used_handoffs.push(used.context("while measuring whole handoffs with their use")?);
        }
        if asked(Part::Latency) {
            report.latencies = self.measure_latency().await.context("while measuring the latency of decisions")?;
        }
        if asked(Part::Stream) {
            report.stream = Some(stream::measure(&self.stack.nats_url).await.context("while publishing to NATS")?);
        }
        if asked(Part::Try) {
            let tried = trial::measure(self.stack, &self.service.database).await;
            report.trial = Some(tried.context("while trying a draft of rules")?);
        }
        if asked(Part::Growth) {
            self.measure_growth(&mut report).await.context("while measuring growth")?;
        }
        report.memory = memory::of_stack(self.stack.pid());
        Ok(report)
    }

    async fn measure_kinds(&mut self, kinds: &[Kind], connections: usize) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for kind in kinds {
            let measured = self.measure_kind(*kind, connections).await;
            rows.push(measured.with_context(|| format!("while measuring: {}", kind.name()))?);
        }
        Ok(rows)
    }

    /// Where every flush of Postgres's log takes a millisecond longer.
    async fn measure_with_slow_flushes(&mut self) -> Result<Vec<Table>> {
        let set = |delay: u32| format!("ALTER SYSTEM SET commit_delay = {delay};\nSELECT pg_reload_conf();");
        self.service.database.psql("ALTER SYSTEM SET commit_siblings = 0;").await?;
        self.service.database.psql(&set(1_000)).await?;
        let mut tables = Vec::new();
        for connections in self.options.connections.iter().copied().map(usize::from) {
            let rows = self.measure_kinds(&[Kind::Submit, Kind::Decide, Kind::Acknowledge], connections).await?;
            let name = format!("{connections} connections, every flush of the log a millisecond longer");
            tables.push(Table { name, rows, has_bounds: false, stored: None });
        }
        self.service.database.psql(&set(0)).await?;
        Ok(tables)
    }

    /// The same with more and more requests stored.
    async fn measure_growth(&mut self, report: &mut Report) -> Result<()> {
        const CONNECTIONS: usize = 32;
        let most = usize::from(*self.options.connections.iter().max().unwrap_or(&32));
        for stored in &self.options.growth {
            eprintln!("storing {stored} requests …");
            tokio::try_join!(growth::fill(&self.service, *stored), growth::fill(&self.floor, *stored))?;
            let kinds = [Kind::Submit, Kind::Decide, Kind::Acknowledge, Kind::EmptyPoll];
            let rows = self.measure_kinds(&kinds, CONNECTIONS.min(most)).await?;
            let name = format!("{} connections, {stored} requests stored", CONNECTIONS.min(most));
            report.tables.push(Table { name, rows, has_bounds: false, stored: Some(*stored) });
            report.queues.push((*stored, growth::queue(self.stack).await?));
        }
        Ok(())
    }

    async fn measure_handoffs(&mut self, end_with: End) -> Result<Handoffs> {
        let stock = self.batch_of(HANDLERS);
        let load = self.load(Kind::Submit, &stock, HANDLERS.size)?;
        handoffs::measure(self.stack, &load, end_with).await
    }

    /// Beside few, beside many, beside few and so on.
    async fn measure_named(&mut self) -> Result<Vec<Rates>> {
        let mut agents = Vec::new();
        for (group, due) in [FEW, MANY].into_iter().zip(named::DUE) {
            eprintln!("{due} decisions are made due for one agent …");
            let (decided, pending) = (self.batch_of(group), self.batch_of(group));
            let load = self.load(Kind::Submit, &pending, 1)?;
            agents.push(Named::prepare(&self.service, load.agents, [decided.batch, pending.batch], due).await?);
        }
        self.service.settle().await?;
        let measured = Duration::from_secs(self.options.seconds);
        let mut rates = Vec::new();
        for run in 1..=self.options.runs {
            let of_run =
                [agents[0].measure(self.stack, measured).await?, agents[1].measure(self.stack, measured).await?];
            let [few, many] = of_run;
            eprintln!("named polls {run}/{}: {few:.0}/s beside few, {many:.0}/s beside many", self.options.runs);
            rates.push(of_run);
        }
        Ok(rates)
    }

    /// Without rules, with them, without them and so on.
    async fn measure_rules(&mut self) -> Result<BesideRules> {
        const CONNECTIONS: usize = 32;
        let documents = [serde_json::json!([]), rules::document()];
        let mut measured = BesideRules::default();
        for run in 1..=self.options.runs {
            let mut rates = [0.0; 2];
            for (rate, document) in rates.iter_mut().zip(&documents) {
                rules::set(self.stack, document).await?;
                let stock = self.batch_of(ASKERS);
                self.service.settle().await?;
                *rate = load::run(self.load(Kind::Submit, &stock, CONNECTIONS)?).await?.per_second;
                self.service.wait_for_events().await?;
            }
            let [without, with] = rates;
            eprintln!("submit beside rules {run}/{}: {without:.0}/s without, {with:.0}/s with", self.options.runs);
            measured.rates.push(rates);
        }
        let stock = self.batch_of(ASKERS);
        let load = self.load(Kind::Submit, &stock, 1)?;
        measured.p50 = rules::time(self.stack, &load.agents, load.batch).await?;
        rules::set(self.stack, &documents[0]).await?;
        Ok(measured)
    }

    /// A batch of its own without prepared rows.
    fn batch_of(&mut self, group: Group) -> Stock {
        self.batches += 1;
        Stock { batch: Batch { number: self.batches, group }, service: 0, floor: 0 }
    }

    /// Service, pgbench, service, pgbench and so on.
    async fn measure_kind(&mut self, kind: Kind, connections: usize) -> Result<Row> {
        let mut row = Row::new(kind, connections);
        let mut rates = (kind.pace() * self.submits, kind.pace() * self.submits);
        let mut kept = None;
        for run in 1..=self.options.runs {
            let name = format!("{} at {connections} {run}/{}", kind.name(), self.options.runs);
            let of = (kind, connections);
            let (measured, behind, ran, rows) = self.measure_pair(of, &name, &mut rates, &mut kept).await?;
            row.behind = row.behind.max(behind);
            row.verified += measured.verified;
            row.floor_rows += rows;
            #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
            let calls = measured.calls as f64;
            let used = measured.usage.map(|used| used.per_call(calls));
            row.service.push(Sample { per_second: measured.per_second, usage: used });
            row.floor.push(ran);
            rates = (measured.per_second * SPARE, ran.per_second * SPARE);
            if kind == Kind::Submit {
                self.submits = ran.per_second;
            }
        }
        Ok(row)
    }

    /// Measures both sides, again with more rows where those prepared did not last.
    async fn measure_pair(
        &mut self,
        (kind, connections): (Kind, usize),
        name: &str,
        rates: &mut (f64, f64),
        kept: &mut Option<Stock>,
    ) -> Result<(Measured, u64, Sample, u64)> {
        for _ in 0..TRIES {
            let stock = self.stock(kind, *rates, kept.take()).await?;
            self.service.settle().await?;
            let measured = load::run(self.load(kind, &stock, connections)?).await?;
            eprintln!("{name}: service {:.0}/s", measured.per_second);
            let behind = self.service.wait_for_events().await?;

            self.floor.settle().await?;
            let before = self.floor.work_done(kind, stock.batch).await?;
            let (ran, sample) = self.measure_floor((kind, connections), stock.batch).await?;
            let rows = self.floor.work_done(kind, stock.batch).await? - before;
            eprintln!("{name}: pgbench {:.0}/s, {rows} rows by {} statements", ran.per_second, ran.transactions);
            let ran_out = match kind {
                Kind::Submit if rows < ran.transactions => bail!("pgbench submitted fewer rows than it should have"),
                Kind::EmptyPoll if before + rows == 0 => bail!("pgbench polled for agents that are not there"),
                Kind::EmptyPoll => false,
                _ => rows < ran.transactions,
            };
            *kept = Some(stock);
            if !measured.ran_out && !ran_out {
                return Ok((measured, behind, sample, rows));
            }
            eprintln!("{name}: the rows prepared did not last; once more, with twice as many");
            rates.0 *= if measured.ran_out { 2.0 } else { 1.0 };
            rates.1 *= if ran_out { 2.0 } else { 1.0 };
        }
        bail!("no number of rows lasted")
    }

    /// Prepares rows for both sides at the same time.
    async fn stock(&mut self, kind: Kind, rates: (f64, f64), kept: Option<Stock>) -> Result<Stock> {
        let (service, floor) = (&self.service, &self.floor);
        let needed = (self.rows(rates.0), self.rows(rates.1));
        let stock = match kept {
            // What was polled can be made ready again.
            Some(kept) if kind == Kind::Poll => {
                let more = (kept.service.max(needed.0), kept.floor.max(needed.1));
                tokio::try_join!(
                    self.decided_by_service(kept.batch, kept.service..more.0),
                    floor.prepare_decided(kept.batch, kept.floor..more.1),
                )?;
                Stock { service: more.0, floor: more.1, ..kept }
            }
            _ => {
                self.batches += 1;
                let batch = Batch { number: self.batches, group: kind.group() };
                match kind {
                    Kind::Submit | Kind::EmptyPoll => {}
                    Kind::Decide => {
                        let pending =
                            (service.prepare_pending(batch, 0..needed.0), floor.prepare_pending(batch, 0..needed.1));
                        tokio::try_join!(pending.0, pending.1)?;
                    }
                    Kind::Poll => {
                        let decided =
                            (self.decided_by_service(batch, 0..needed.0), floor.prepare_decided(batch, 0..needed.1));
                        tokio::try_join!(decided.0, decided.1)?;
                    }
                    Kind::Acknowledge => {
                        let decided =
                            (service.prepare_decided(batch, 0..needed.0), floor.prepare_decided(batch, 0..needed.1));
                        tokio::try_join!(decided.0, decided.1)?;
                    }
                }
                Stock { batch, service: needed.0, floor: needed.1 }
            }
        };
        let batch = stock.batch;
        if kind == Kind::Poll {
            tokio::try_join!(service.make_ready(batch), floor.make_ready(batch))?;
        } else if kind == Kind::Acknowledge {
            tokio::try_join!(service.make_leased(batch), floor.make_leased(batch))?;
        }
        Ok(stock)
    }

    /// Requests whose decisions the service has made and attested: the only ones that it delivers.
    async fn decided_by_service(&self, batch: Batch, rows: Range<u64>) -> Result<()> {
        self.service.prepare_pending(batch, rows.clone()).await?;
        load::decide(self.stack.address, &self.stack.operators, batch, rows).await?;
        self.service.wait_for_events().await?;
        Ok(())
    }

    /// Rows that last for a measurement at this rate.
    fn rows(&self, rate: f64) -> u64 {
        let seconds = WARM_UP.as_secs() + self.options.seconds;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate"
        )]
        let rows = (rate * seconds as f64).max(0.0) as u64;
        rows.next_multiple_of(STEP)
    }

    fn load(&mut self, kind: Kind, stock: &Stock, connections: usize) -> Result<Load> {
        let position = GROUPS.iter().position(|group| *group == stock.batch.group).context("an unknown group")?;
        if let Some(agents) = Arc::get_mut(&mut self.agents[position]) {
            agents.iter_mut().try_for_each(Agent::refresh_token)?;
        }
        Ok(Load {
            kind,
            address: self.stack.address,
            stack: self.stack.pid(),
            connections,
            agents: self.agents[position].clone(),
            operators: self.stack.operators.clone(),
            batch: stock.batch,
            rows: stock.service,
            warm_up: WARM_UP,
            measured: Duration::from_secs(self.options.seconds),
        })
    }

    async fn measure_floor(&self, (kind, connections): (Kind, usize), batch: Batch) -> Result<(Ran, Sample)> {
        /// pgbench must still be there when its time is read.
        const BEFORE_THE_END: Duration = Duration::from_millis(200);
        let measured = Duration::from_secs(self.options.seconds);
        let watched = measured.saturating_sub(BEFORE_THE_END);
        let (sender, started) = oneshot::channel();
        let watch = async {
            let pid = started.await.ok()?;
            sleep(WARM_UP).await;
            let before = usage(self.stack.pid(), pid)?;
            sleep(watched).await;
            Some(usage(self.stack.pid(), pid)? - before)
        };
        let run = self.floor.measure(kind, batch, connections, (WARM_UP, measured), |pid| {
            let _ = sender.send(pid);
        });
        let (ran, used): (_, Option<Usage>) = tokio::join!(run, watch);
        let ran = ran?;
        ensure!(ran.per_second > 0.0, "pgbench reported no progress");
        let usage = used.map(|used| used.per_call(ran.per_second * watched.as_secs_f64()));
        Ok((ran, Sample { per_second: ran.per_second, usage }))
    }

    async fn measure_latency(&mut self) -> Result<Vec<Latency>> {
        let decisions = usize::try_from(self.options.decisions)?;
        let mut latencies = Vec::new();
        for at_once in latency::BURSTS {
            eprintln!("decisions to waiting agents, {at_once} at a time …");
            let stock = self.batch_of(WAITERS);
            let load = self.load(Kind::Submit, &stock, WAITERS.size)?;
            latencies.push(latency::measure(self.stack, &load.agents, load.batch, decisions, at_once).await?);
        }
        Ok(latencies)
    }
}
