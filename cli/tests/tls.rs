//! The documented `DATABASE_URL` against a server whose certificate a company's own authority has signed.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::path::Path;
use std::process::Command;

use relaytrace_servers::{Durability, Postgres};

/// Made by the server's own user, in its data folder: nobody else may read its key.
const CERTIFICATES: &str = "\
    openssl req -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=authority -keyout authority.key -out authority.pem && \
    openssl req -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=server -CA authority.pem -CAkey authority.key \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost \
        -keyout server.key -out server.crt && chmod 600 server.key";

fn migrate(url: &str, roots: Option<&Path>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relaytrace"));
    command.arg("migrate").env_clear().env("DATABASE_URL", url);
    if let Some(roots) = roots {
        command.env("SSL_CERT_FILE", roots);
    }
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_documented_url_verifies_a_private_authority() {
    let folder = relaytrace_servers::scratch_folder().unwrap();
    let postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway).unwrap();
    let program = CERTIFICATES.replace('\'', "''");
    postgres.psql("postgres", &format!("COPY (SELECT 1) TO PROGRAM '{program}';")).unwrap();
    postgres.psql("postgres", "ALTER SYSTEM SET ssl = on;").unwrap();
    postgres.psql("postgres", "SELECT pg_reload_conf();").unwrap();
    postgres.create_database_if_missing("relaytrace").unwrap();

    let authority = folder.path().join("authority.pem");
    std::fs::copy(postgres.data().join("authority.pem"), &authority).unwrap();
    let url = postgres.url("relaytrace").replace("127.0.0.1", "localhost");
    for query in ["sslmode=verify-full&sslrootcert=system", "sslrootcert=system", "sslmode=verify-full"] {
        let url = format!("{url}?{query}");
        let (is_done, said) = migrate(&url, Some(&authority));
        assert!(is_done, "{query}: {said}");
        let (is_done, said) = migrate(&url, None);
        assert!(!is_done, "{query}: an authority that nobody named: {said}");
    }
    // The certificate is another host's.
    let (is_done, _) = migrate(&format!("{}?sslrootcert=system", postgres.url("relaytrace")), Some(&authority));
    assert!(!is_done);
}
