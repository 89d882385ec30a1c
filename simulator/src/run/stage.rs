//! A stack of a scenario's own, and its faults.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};

use super::scenario::{Break, Fault, Scenario, described};
use super::target::Target;
use crate::drill::scene::{Scene, Servers};
use crate::drill::service::Service;

/// The functions that are processes of their own.
const FUNCTIONS: [&str; 8] = ["ingest", "poll", "bridge", "decide", "timeout-sweep", "notify", "replay", "admin"];

/// A stack: servers, and processes of the service.
pub struct Stage<'a> {
    /// Servers, database, people.
    pub scene: Scene<'a>,
    services: Vec<Service>,
    front: Option<Service>,
}

/// A fault that happened.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Happened {
    /// What breaks, in words.
    pub what: &'static str,
    /// When, in seconds after the start.
    pub at: f64,
    /// When all was started again.
    pub until: f64,
}

impl<'a> Stage<'a> {
    /// Starts the scenario's servers, on a database of its own.
    pub async fn set(name: &str, scenario: &Scenario, servers: &'a mut Servers) -> Result<Self> {
        let scene = Scene::set(name, 0, false, servers)?;
        let variables: Vec<_> =
            scenario.stack.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut stage = Self { scene, services: Vec::new(), front: None };
        if scenario.stack.separate_functions {
            let mut addresses = vec!["front".to_owned()];
            for name in FUNCTIONS {
                let mut function = stage.scene.function(name, &variables)?;
                function.start().await.with_context(|| format!("{name} does not start"))?;
                addresses.push(format!("{name}={}", function.address()));
                stage.services.push(function);
            }
            let arguments: Vec<_> = addresses.iter().map(String::as_str).collect();
            let mut front = stage.scene.process("relaytrace-local", &arguments, &[])?;
            front.start().await?;
            stage.front = Some(front);
        } else {
            let service = stage.scene.start_service(&variables).await?;
            stage.services.push(service);
        }
        Ok(stage)
    }

    /// How it is reached, and by whom.
    pub fn target(&self) -> Result<Target> {
        let service = self.front.as_ref().or(self.services.first()).context("there is no service")?;
        let base_url = format!("http://{}", service.address());
        Target::described(&self.scene.folder().join("dev.json"), Some(&base_url))
    }

    /// The first processes of each of its parts, by name.
    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        let services = self.services.iter().chain(&self.front).filter_map(|service| Some(("service", service.pid()?)));
        let servers = [("postgres", self.scene.postgres.pid()), ("nats", self.scene.nats.pid())];
        let servers = servers.into_iter().filter_map(|(name, pid)| Some((name, pid?)));
        services.chain(servers).chain([("simulator", std::process::id())]).collect()
    }

    /// Injects each fault at its time, and ends it.
    pub async fn break_all(&mut self, faults: &[Fault], begun: Instant) -> Result<Vec<Happened>> {
        let mut happened = Vec::new();
        for Fault { at, what, for_seconds } in faults {
            sleep_until(begun + Duration::from_secs_f64(*at)).await;
            let from = begun.elapsed().as_secs_f64();
            let away = Duration::from_secs_f64(*for_seconds);
            self.break_one(*what, away).await.with_context(|| described(*what))?;
            happened.push(Happened { what: described(*what), at: from, until: begun.elapsed().as_secs_f64() });
        }
        Ok(happened)
    }

    async fn break_one(&mut self, what: Break, away: Duration) -> Result<()> {
        let Scene { postgres, nats, .. } = &mut self.scene;
        match what {
            Break::NatsKilled => {
                block_in_place(|| nats.kill())?;
                sleep(away).await;
                block_in_place(|| nats.start_again())
            }
            Break::PostgresStopped | Break::PostgresKilled => {
                let is_kill = what == Break::PostgresKilled;
                block_in_place(|| if is_kill { postgres.kill() } else { postgres.stop_immediate() })?;
                sleep(away).await;
                block_in_place(|| postgres.start_again())
            }
            Break::FunctionsRestarted | Break::FunctionsKilled => {
                for service in &mut self.services {
                    if what == Break::FunctionsKilled {
                        service.kill()?;
                    } else {
                        service.stop().await?;
                    }
                    sleep(away).await;
                    service.start().await?;
                }
                Ok(())
            }
        }
    }
}
