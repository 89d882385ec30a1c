//! fsync of the write-ahead log fails: nothing is acknowledged that is not stored.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::drill::client::envelope;
use crate::drill::judge::judge;
use crate::drill::load::Load;
use crate::drill::scene::Scene;
use crate::drill::{Unplayable, Verdict, enough};

/// How long every fsync fails.
const FAILING: Duration = Duration::from_secs(1);
/// Submissions in that time at the least: on a slow machine it lasts until they were made.
const LEAST_PROBES: u64 = 5;
/// Begins a line of Postgres's own log when Postgres cannot write its write-ahead log.
const PANIC: &str = "PANIC:";

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let mut agents = scene.agents(&service, 3).await?;
    let prober = agents.pop().context("an agent")?;
    let load = Load::start(scene, &service, agents, 1);
    let mut client = scene.client(&service);
    let (panics_before, mut probes, mut acknowledged) = (panics(scene)?, 0, 0);
    for round in 0..scene.count {
        load.wait_for_more(20, Duration::from_secs(30)).await?;
        let failing = Failing::begin(scene).await?;
        let begun = Instant::now();
        while begun.elapsed() < FAILING || probes < LEAST_PROBES * (round + 1) {
            // Sent while no fsync can succeed: a 2xx would be a lie.
            probes += 1;
            let key = format!("probe-{round}-{probes}");
            let answered = client.submit(&prober, &key, &envelope(&prober.id, &key)).await;
            acknowledged += u64::from(answered.is_some());
            sleep(Duration::from_millis(10)).await;
        }
        failing.end()?;
        block_in_place(|| scene.postgres.stop_immediate().and_then(|()| scene.postgres.start_again()))?;
        load.wait_for_more(1, Duration::from_secs(10)).await?;
    }
    load.finish(scene, Duration::from_mins(2)).await?;
    let panics = panics(scene)? - panics_before;
    let did = format!(
        "{} times every fsync failed ({panics} panics of Postgres), {acknowledged} of {probes} submissions \
         acknowledged meanwhile",
        scene.count
    );
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&did)?;
    ensure!(acknowledged == 0, "{did}");
    enough(panics, scene.count, "panics")?;
    enough(probes, LEAST_PROBES * scene.count, "submissions meanwhile")?;
    Ok(verdict)
}

fn panics(scene: &Scene<'_>) -> Result<u64> {
    let log = std::fs::read(scene.postgres.log())?;
    Ok(String::from_utf8_lossy(&log).matches(PANIC).count() as u64)
}

/// strace at every process of Postgres, which lets their fsyncs fail until it ends.
struct Failing(Child);

impl Failing {
    async fn begin(scene: &Scene<'_>) -> Result<Self> {
        let mut pids: Vec<u32> = scene.postgres.pid().into_iter().collect();
        for line in scene.sql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")?.lines() {
            pids.push(line.parse()?);
        }
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        strace.args(["-e", "inject=fsync,fdatasync:error=EIO"]);
        for pid in &pids {
            strace.args(["-p", &pid.to_string()]);
        }
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(child) = strace.spawn() else { bail!(Unplayable("strace is not installed".to_owned())) };
        let mut failing = Self(child);
        let begun = Instant::now();
        while !pids.iter().all(|pid| is_traced(*pid)) {
            if let Some(status) = failing.0.try_wait()? {
                let mut words = String::new();
                if let Some(mut said) = failing.0.stderr.take() {
                    std::io::Read::read_to_string(&mut said, &mut words)?;
                }
                bail!(Unplayable(format!("strace may not trace Postgres here ({status}): {}", words.trim())));
            }
            ensure!(begun.elapsed() < Duration::from_secs(10), "strace did not begin within 10 s");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(failing)
    }

    /// Lets fsync succeed again.
    fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Whether the process is traced, or gone.
fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_none_or(|tracer| tracer.trim() != "0")
}
