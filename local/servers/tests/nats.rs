//! NATS for real: started, stopped, killed, wiped, started again.

mod common;

use anyhow::Result;
use common::{is_alive, nats_request};
use relaytrace_servers::{Durability, Nats, scratch_folder};

fn create_stream(nats: &Nats) -> Result<String> {
    nats_request(
        nats.port(),
        "$JS.API.STREAM.CREATE.events",
        r#"{"name":"events","subjects":["events.*"],"storage":"file"}"#,
    )
}

fn messages(nats: &Nats) -> Result<Option<u64>> {
    let info = nats_request(nats.port(), "$JS.API.STREAM.INFO.events", "")?;
    let count = info.split_once("\"messages\":").and_then(|(_, rest)| rest.split([',', '}']).next()?.parse().ok());
    Ok(count)
}

#[test]
fn messages_survive_every_way_of_ending_but_a_wipe() -> Result<()> {
    let folder = scratch_folder()?;
    let mut nats = Nats::start(&folder.path().join("nats"), Durability::Durable)?;
    let (port, first) = (nats.port(), nats.pid());
    assert_eq!(nats.url(), format!("nats://127.0.0.1:{port}"));
    create_stream(&nats)?;
    let ends: [fn(&mut Nats) -> Result<()>; 3] = [Nats::stop, Nats::kill, Nats::restart];
    for (round, end) in (1..).zip(ends) {
        let acknowledged = nats_request(nats.port(), "events.one", "hello")?;
        assert!(acknowledged.contains("\"seq\":"), "{acknowledged}");
        end(&mut nats)?;
        nats.start_again()?;
        assert_eq!(messages(&nats)?, Some(round));
    }
    assert_eq!(nats.port(), port);
    assert_ne!(nats.pid(), first);

    assert!(nats.wipe().is_err(), "while it runs");
    nats.stop()?;
    assert_eq!(nats.pid(), None);
    nats.wipe()?;
    nats.start_again()?;
    assert_eq!(messages(&nats)?, None);
    create_stream(&nats)?;
    Ok(())
}

#[test]
fn every_message_is_synced_only_where_asked() -> Result<()> {
    let folder = scratch_folder()?;
    for (name, durability, always) in [("one", Durability::Durable, true), ("other", Durability::Throwaway, false)] {
        let nats = Nats::start(&folder.path().join(name), durability)?;
        let config = std::fs::read_to_string(folder.path().join(name).join("nats.conf"))?;
        assert_eq!(config.contains("sync_interval: always"), always);
        create_stream(&nats)?;
    }
    Ok(())
}

#[test]
fn a_folder_has_one_owner_and_keeps_its_port() -> Result<()> {
    let folder = scratch_folder()?;
    let dir = folder.path().join("a \"quoted\" földer's");
    let nats = Nats::start(&dir, Durability::Throwaway)?;
    create_stream(&nats)?;
    let error = Nats::start(&dir, Durability::Throwaway).err().map(|error| format!("{error:#}"));
    assert!(error.as_deref().is_some_and(|text| text.contains("in use by another process")), "{error:?}");
    let (port, pid) = (nats.port(), nats.pid());
    drop(nats);
    assert!(!is_alive(pid));
    let nats = Nats::start(&dir, Durability::Throwaway)?;
    assert_eq!(nats.port(), port);
    assert_eq!(messages(&nats)?, Some(0));
    drop(nats);

    let _taken = std::net::TcpListener::bind(("127.0.0.1", port))?;
    assert_ne!(Nats::start(&dir, Durability::Throwaway)?.port(), port);
    Ok(())
}
