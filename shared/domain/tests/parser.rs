//! Broken, cut, spliced and nested envelopes into the parser: an answer each time, never a panic.
//!
//! `PARSER_INPUTS` sets how many; `PROPTEST_RNG_SEED` repeats those of a failure.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use relaytrace_domain::Error;
use relaytrace_domain::{Json, ParseError, Submission};

/// Inputs by default.
const INPUTS: u32 = 5_000;

/// What broken inputs are made of: a plain envelope, one with everything in it, and some that are none.
const ORIGINALS: [&str; 5] = [
    r#"{"envelope_version":"1","agent_id":"a","client_request_key":"k","priority":"P2","title":"T","action":{"type":"x","arguments":{}}}"#,
    r#"{"envelope_version":"1","agent_id":"billing-agent","client_request_key":"refund-1042","priority":"P1","title":"R\u00fcck \ud83d\ude00","summary":"**b**\n","action":{"type":"refund.create","arguments":{"a":[1,-0,0.5e-3,9007199254740991,null,true,{"b":{"c":[[],{}]}}],"amount":"1240.00"}},"context":{"k":"v"},"resume":{"n":1.0},"respond_by":"2026-11-22T12:00:00.123456Z"}"#,
    r"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    r#"{"decision":"reject","reason":"no","action_digest":"sha256:00"}"#,
    "",
];

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 28] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"\\udc00",
    b"\\u0000",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"null",
    b"1e400",
    b"-",
    b"-0",
    b"9007199254740992",
    b"01",
    b"0.",
    b"\"agent_id\":7,",
    b"\"title\":null,",
    b"{\"a\":1,\"a\":1}",
    b"[[[[[[[[[[[[[[[[",
];

#[derive(Clone, Debug)]
enum Edit {
    Byte(prop::sample::Index, u8),
    Insert(prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize, usize),
    Splice(usize, prop::sample::Index, prop::sample::Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &prop::sample::Index, of: usize| index.index(of + 1);
        match self {
            Self::Byte(index, byte) => {
                let at = at(index, bytes.len());
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Self::Insert(index, piece) => {
                let at = at(index, bytes.len());
                bytes.splice(at..at, PIECES[*piece].iter().copied());
            }
            Self::Remove(index, length) => {
                let at = at(index, bytes.len());
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Self::Repeat(index, length, times) => {
                let at = at(index, bytes.len());
                let part = bytes[at..(at + length).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, part);
            }
            Self::Splice(original, from, to) => {
                let other = ORIGINALS[*original].as_bytes();
                let (from, to) = (at(from, other.len()), at(to, bytes.len()));
                bytes.truncate(to);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(index, byte)| Edit::Byte(index, byte)),
        (any::<Index>(), 0..PIECES.len()).prop_map(|(index, piece)| Edit::Insert(index, piece)),
        (any::<Index>(), 1..40_usize).prop_map(|(index, length)| Edit::Remove(index, length)),
        (any::<Index>(), 1..12_usize, 2..40_usize)
            .prop_map(|(index, length, times)| Edit::Repeat(index, length, times)),
        (0..ORIGINALS.len(), any::<Index>(), any::<Index>())
            .prop_map(|(original, from, to)| Edit::Splice(original, from, to)),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let edited = (0..ORIGINALS.len(), prop::collection::vec(edit(), 0..5)).prop_map(|(original, edits)| {
        let mut bytes = ORIGINALS[original].as_bytes().to_vec();
        for edit in &edits {
            edit.apply(&mut bytes);
        }
        bytes
    });
    let pieces = prop::collection::vec(0..PIECES.len(), 0..24)
        .prop_map(|pieces| pieces.into_iter().flat_map(|piece| PIECES[piece].iter().copied()).collect());
    prop_oneof![8 => edited, 1 => pieces, 1 => prop::collection::vec(any::<u8>(), 0..48)]
}

/// It is taken or refused with 400 or 422; what is taken is JSON to others, and what is no JSON here is none to them.
fn check(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    match Json::parse(bytes) {
        Ok(_) => prop_assert!(theirs.is_ok(), "it is no JSON"),
        Err(ParseError::Malformed(detail)) if detail.starts_with("duplicate") => {}
        Err(ParseError::Malformed(detail)) => prop_assert!(theirs.is_err(), "it is JSON: {detail}"),
        Err(ParseError::Invalid(faults)) => prop_assert!(!faults.is_empty(), "refused for nothing"),
    }
    match Submission::parse(bytes, None).map_err(Error::from) {
        Ok(submission) => {
            prop_assert_eq!(submission.bytes.as_slice(), bytes);
            Ok(true)
        }
        Err(error) => {
            prop_assert!(matches!(error, Error::MalformedJson(_) | Error::Invalid(_)), "{error:?}");
            Ok(false)
        }
    }
}

#[test]
fn every_input_has_an_answer() {
    let inputs = std::env::var("PARSER_INPUTS").map_or(INPUTS, |text| text.parse().expect("a number"));
    let mut config = Config { cases: inputs, failure_persistence: None, ..Config::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let taken = std::cell::Cell::new(0_u32);
    let ran = TestRunner::new(config).run(&input(), |bytes| {
        taken.set(taken.get() + u32::from(check(&bytes)?));
        Ok(())
    });
    assert!(ran.is_ok(), "PROPTEST_RNG_SEED={seed}\n{}", ran.unwrap_err());
    let taken = taken.get();
    assert!(taken > inputs / 50, "only {taken} of {inputs} inputs were taken: this would not reach the envelope");
    println!("{inputs} inputs, {taken} taken, the others refused with 400 or 422, 0 panics");
}
