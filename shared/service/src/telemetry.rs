//! Logs: one line for each request (written by `http`), JSON in production, readable in a terminal. Trace contexts
//! after W3C Trace Context.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

use rand::RngExt as _;
use tracing_subscriber::EnvFilter;

/// Sets the log up. The first call wins.
pub fn init() {
    let readable = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr).with_target(false);
    let outcome = if readable { builder.compact().try_init() } else { builder.json().flatten_event(true).try_init() };
    // Whoever set a subscriber up before us, a test for one, keeps it.
    drop(outcome);
}

/// Sets the log up as readable lines in a file: the terminal belongs to something else.
///
/// # Errors
/// The file cannot be opened.
pub fn init_to_file(path: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter()).with_ansi(false).with_target(false);
    drop(builder.compact().with_writer(Mutex::new(file)).try_init());
    Ok(())
}

fn filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=error"))
}

/// The trace that a request belongs to: the caller's, or a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The header `traceparent` that is passed on.
    pub traceparent: String,
}

impl TraceContext {
    /// Continues the trace of a `traceparent` header, or begins one where there is none that is valid.
    #[must_use]
    pub fn continue_from(header: Option<&str>) -> Self {
        let mut random = rand::rng();
        let span_id: u64 = random.random();
        let traceparent = match header.and_then(Parent::parse) {
            Some(Parent { trace_id, .. }) => format!("00-{trace_id}-{span_id:016x}-01"),
            None => format!("00-{:032x}-{span_id:016x}-01", random.random::<u128>()),
        };
        Self { traceparent }
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap_or_default()
    }
}

/// The caller's span, as a `traceparent` header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent<'a> {
    /// 32 hexadecimal digits, not all of them zero.
    pub(crate) trace_id: &'a str,
    /// 16 hexadecimal digits.
    pub(crate) span_id: &'a str,
    /// The caller records it.
    pub(crate) is_sampled: bool,
}

impl<'a> Parent<'a> {
    /// Reads a header (W3C Trace Context, section 3.2); `None`: it is not valid.
    pub(crate) fn parse(header: &'a str) -> Option<Self> {
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        let mut parts = header.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let valid = version.len() == 2
            && version != "ff"
            && trace_id.len() == 32
            && span_id.len() == 16
            && flags.len() == 2
            && [version, trace_id, span_id, flags].into_iter().all(is_hex)
            && trace_id.bytes().any(|b| b != b'0');
        let is_sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
        valid.then_some(Self { trace_id, span_id, is_sampled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_traceparent_is_continued_and_anything_else_begins_a_trace() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let context = TraceContext::continue_from(Some(&format!("00-{id}-00f067aa0ba902b7-01")));
        assert_eq!(context.trace_id(), id);
        assert!(context.traceparent.starts_with(&format!("00-{id}-")));
        for broken in ["", "00", "00-xyz-00f067aa0ba902b7-01", &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))] {
            assert_eq!(TraceContext::continue_from(Some(broken)).trace_id().len(), 32);
        }
    }
}
