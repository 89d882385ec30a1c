//! `DATABASE_URL`, and the root certificates that its server is verified with.
//!
//! The driver takes `sslrootcert=system` for a file's name and knows compiled-in roots only. As libpq does, `system` means
//! the roots of this system; where a server is to be verified and no file is named, they are used beside those compiled
//! in. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as for every other connection that this process makes.

use std::str::FromStr as _;

use pem::Pem;
use rustls::RootCertStore;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

const SYSTEM: &str = "system";

/// Reads a URL of Postgres.
///
/// # Errors
/// The fault, without the value.
pub(crate) fn parse(text: &str) -> Result<PgConnectOptions, &'static str> {
    const RULE: &str = "is not a Postgres URL";
    let options = PgConnectOptions::from_str(text).map_err(|_| RULE)?;
    let url = Url::parse(text).map_err(|_| RULE)?;
    let given = |name: &str, variable: &str| {
        let parameter = url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
        parameter.or_else(|| std::env::var(variable).ok())
    };
    let is_mode_given = given("sslmode", "PGSSLMODE").is_some();
    let options = match given("sslrootcert", "PGSSLROOTCERT").as_deref() {
        Some(SYSTEM) if !is_mode_given => options.ssl_mode(PgSslMode::VerifyFull),
        Some(SYSTEM) if !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) => {
            return Err("has sslrootcert=system, which needs sslmode=verify-full");
        }
        Some(SYSTEM) => options,
        None if matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull) => options,
        _ => return Ok(options),
    };
    Ok(options.ssl_root_cert_from_pem(system_roots()))
}

/// The roots of this system as PEM, without those that the TLS library cannot read.
fn system_roots() -> Vec<u8> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(error = %error, "root certificates cannot be read");
    }
    let usable = found.certs.into_iter().filter(|root| RootCertStore::empty().add(root.clone()).is_ok());
    let blocks: Vec<_> = usable.map(|root| Pem::new("CERTIFICATE", root.to_vec())).collect();
    pem::encode_many(&blocks).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_roots_go_with_a_verified_host_only() {
        for (query, mode) in [
            ("sslrootcert=system", "VerifyFull"),
            ("sslmode=verify-full&sslrootcert=system", "VerifyFull"),
            ("sslmode=verify-ca", "VerifyCa"),
            ("sslmode=require", "Require"),
            ("sslmode=verify-full&sslrootcert=/a/file", "VerifyFull"),
        ] {
            let options = parse(&format!("postgres://user@host/database?{query}")).unwrap();
            assert_eq!(format!("{:?}", options.get_ssl_mode()), mode, "{query}");
        }
        for bad in ["postgres://host/d?sslmode=require&sslrootcert=system", "postgres://host/d?sslmode=no", "no URL"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
