//! Postgres for real: started, stopped, killed, started again, left over, and as root.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::Result;
use common::{is_alive, is_root, owner};
use relaytrace_servers::{Durability, Postgres, PostgresOptions, scratch_folder};

const COUNT: &str = "SELECT count(*) FROM rows";

#[test]
fn rows_survive_every_way_of_ending_and_the_port_stays() -> Result<()> {
    let folder = scratch_folder()?;
    let mut postgres = Postgres::start(&folder.path().join("postgres"), Durability::Durable)?;
    let (port, first) = (postgres.port(), postgres.pid());
    postgres.create_database_if_missing("relaytrace")?;
    postgres.create_database_if_missing("relaytrace")?;
    postgres.create_database_if_missing("od\"d ' name")?;
    postgres.psql("relaytrace", "CREATE TABLE rows (id int)")?;
    let ends: [fn(&mut Postgres) -> Result<()>; 4] =
        [Postgres::stop, Postgres::stop_immediate, Postgres::kill, Postgres::restart];
    for (round, end) in ends.iter().enumerate() {
        postgres.psql("relaytrace", &format!("INSERT INTO rows VALUES ({round})"))?;
        end(&mut postgres)?;
        postgres.start_again()?;
        assert_eq!(postgres.psql("relaytrace", COUNT)?, (round + 1).to_string());
    }
    assert_eq!(postgres.port(), port);
    assert_ne!(postgres.pid(), first);
    let many = "SELECT repeat('x', 100);\n".repeat(3_000);
    assert_eq!(postgres.psql("relaytrace", &many)?.lines().count(), 3_000);
    let error = postgres.psql("no such", &many).err().map(|error| error.to_string());
    assert!(error.as_deref().is_some_and(|text| text.contains("does not exist")), "{error:?}");
    assert_eq!(postgres.url("relaytrace"), format!("postgres://relaytrace@127.0.0.1:{port}/relaytrace"));
    Ok(())
}

#[test]
fn it_starts_again_right_after_a_kill_with_busy_backends() -> Result<()> {
    let folder = scratch_folder()?;
    let mut postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway)?;
    // Backends that do not look up: by themselves they notice the death of their server at the end.
    let busy = "DO $$ BEGIN FOR i IN 1..2000000000 LOOP END LOOP; END $$";
    let _clients = [common::send_query(postgres.port(), busy)?, common::send_query(postgres.port(), busy)?];
    let mut backends = String::new();
    common::wait_until("both to run", || {
        let asked = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %'";
        backends = postgres.psql("postgres", asked).unwrap_or_default();
        backends.lines().count() == 2
    })?;
    postgres.kill()?;
    assert!(backends.lines().all(|pid| !is_alive(pid.parse().ok())));
    postgres.start_again()?;
    assert_eq!(postgres.psql("postgres", "SELECT 1")?, "1");

    // As does one whose server alone was killed, by somebody else.
    let _client = common::send_query(postgres.port(), "DO $$ BEGIN FOR i IN 1..20000000 LOOP END LOOP; END $$")?;
    common::kill_nine(postgres.pid().unwrap_or_default())?;
    postgres.kill()?;
    postgres.start_again()?;
    assert_eq!(postgres.psql("postgres", "SELECT 1")?, "1");
    Ok(())
}

#[test]
fn settings_are_those_asked_for() -> Result<()> {
    let folder = scratch_folder()?;
    let show = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
                ('data_checksums', 'fsync', 'full_page_writes', 'listen_addresses', 'max_connections', 'server_encoding', \
                'lc_collate', 'shared_preload_libraries', 'synchronous_commit', 'unix_socket_directories', 'work_mem')";
    let durable = Postgres::start(&folder.path().join("durable"), Durability::Durable)?;
    let setting = |setting: &str, server: &Postgres| server.psql("postgres", &format!("SHOW {setting}"));
    for (name, value) in [
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("lc_collate", "C"),
        ("listen_addresses", "127.0.0.1"),
        ("max_connections", "200"),
        ("server_encoding", "UTF8"),
        ("shared_preload_libraries", "pg_stat_statements"),
        ("synchronous_commit", "on"),
        ("unix_socket_directories", ""),
    ] {
        assert_eq!(setting(name, &durable)?, value, "{name}, of {}", durable.psql("postgres", show)?);
    }
    let options = PostgresOptions {
        durability: Durability::Throwaway,
        settings: vec![("work_mem".to_owned(), "5MB".to_owned()), ("max_connections".to_owned(), "31".to_owned())],
        ..PostgresOptions::default()
    };
    let throwaway = Postgres::start(&folder.path().join("throwaway"), options)?;
    for (name, value) in [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("max_connections", "31"),
        ("synchronous_commit", "off"),
        ("work_mem", "5MB"),
    ] {
        assert_eq!(setting(name, &throwaway)?, value, "{name}");
    }
    assert_ne!(durable.port(), throwaway.port());
    Ok(())
}

#[test]
fn a_folder_has_one_owner_and_keeps_its_data_and_port() -> Result<()> {
    let folder = scratch_folder()?;
    let dir = folder.path().join("postgres");
    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    postgres.create_database_if_missing("kept")?;
    let error = Postgres::start(&dir, Durability::Throwaway).err().map(|error| format!("{error:#}"));
    assert!(error.as_deref().is_some_and(|text| text.contains("in use by another process")), "{error:?}");
    let (port, pid) = (postgres.port(), postgres.pid());
    drop(postgres);
    assert!(!is_alive(pid));

    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    assert_eq!(postgres.port(), port);
    assert_eq!(postgres.psql("kept", "SELECT 1")?, "1");
    Ok(())
}

#[test]
fn a_taken_port_is_given_up_for_another() -> Result<()> {
    let folder = scratch_folder()?;
    let dir = folder.path().join("postgres");
    let port = Postgres::start(&dir, Durability::Throwaway)?.port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    assert_ne!(postgres.port(), port);
    assert_eq!(postgres.psql("postgres", "SELECT 1")?, "1");
    Ok(())
}

#[test]
fn a_pid_file_whose_number_is_now_another_process_is_no_obstacle() -> Result<()> {
    let folder = scratch_folder()?;
    let mut postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway)?;
    postgres.kill()?;
    // A process of the same user, as which Postgres would refuse to start.
    let mut other = common::command_as_owner("sleep", postgres.data())?.arg("100").spawn()?;
    let pid_file = postgres.data().join("postmaster.pid");
    let text = fs::read_to_string(&pid_file)?;
    let (_, rest) = text.split_once('\n').unwrap_or_default();
    fs::write(&pid_file, format!("{}\n{rest}", other.id()))?;
    let started = postgres.start_again();
    let untouched = other.try_wait()?.is_none();
    other.kill()?;
    other.wait()?;
    started?;
    assert!(untouched);
    Ok(())
}

#[test]
fn a_folder_with_something_else_in_it_is_left_alone() -> Result<()> {
    let folder = scratch_folder()?;
    fs::write(folder.path().join("precious"), "")?;
    assert!(Postgres::start(folder.path(), Durability::Throwaway).is_err());
    assert_eq!(fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_setting_that_is_wrong_is_reported_in_postgres_own_words() -> Result<()> {
    let folder = scratch_folder()?;
    let options = PostgresOptions {
        durability: Durability::Throwaway,
        settings: vec![("work_mem".to_owned(), "much".to_owned())],
        ..PostgresOptions::default()
    };
    let error = Postgres::start(&folder.path().join("postgres"), options).err().map(|error| format!("{error:#}"));
    assert!(
        error.as_deref().is_some_and(|text| text.contains("invalid value for parameter \"work_mem\"")),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn paths_may_be_long_and_odd() -> Result<()> {
    let folder = scratch_folder()?;
    let dir = folder.path().join("a \"quoted\" földer's").join("x".repeat(150)).join("postgres");
    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    assert_eq!(postgres.psql("postgres", "SELECT 1")?, "1");
    Ok(())
}

/// Only root runs a server as somebody else.
#[test]
fn where_the_ordinary_user_cannot_go_a_link_leads_to_a_folder_where_it_can() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let folder = scratch_folder()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
    let dir = folder.path().join("postgres");
    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    let place = fs::read_link(&dir)?;
    assert!(place.starts_with("/var/tmp"), "{place:?}");
    assert_ne!(fs::metadata(postgres.data())?.uid(), 0);
    assert_eq!(fs::metadata(postgres.data())?.mode() & 0o777, 0o700);
    assert_ne!(owner(postgres.pid()), Some(0));
    postgres.create_database_if_missing("kept")?;
    drop(postgres);

    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    assert_eq!(postgres.psql("kept", "SELECT 1")?, "1");
    drop(postgres);

    // Without the link the data are nobody's: they must not come back.
    fs::remove_file(&dir)?;
    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    assert_eq!(postgres.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'kept'")?, "0");
    drop(postgres);

    // And the place may be cleared away.
    fs::remove_dir_all(&place)?;
    drop(Postgres::start(&dir, Durability::Throwaway)?);
    fs::remove_dir_all(&place)?;
    Ok(())
}

/// Only root runs a server as somebody else.
#[test]
fn data_that_an_ordinary_user_made_stay_that_users() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let folder = scratch_folder()?;
    let dir = folder.path().join("postgres");
    drop(Postgres::start(&dir, Durability::Throwaway)?);
    let chowned = std::process::Command::new("chown").args(["-R", "4321:4321"]).arg(&dir).status()?;
    assert!(chowned.success());
    let postgres = Postgres::start(&dir, Durability::Throwaway)?;
    assert_eq!(owner(postgres.pid()), Some(4321));
    Ok(())
}
