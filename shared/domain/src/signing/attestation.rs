//! Attestations: the deciding function's signature over its decision, made before the database holds it (contract,
//! "Attestation").
//!
//! A `decided` entry holds `attestation: {kid, sig}`: an Ed25519 signature over the entry itself, without the members
//! that only the database knows when it writes it. Write access to the database is not enough for a decision with a
//! receipt: that takes the key of a function that may speak for the cause.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::known::Known;
use super::receipt::{public, thumbprint};
use crate::json::write_canonical_object;
use crate::{Actor, Cause, Digest, Error, Json, Outcome, RequestId, Result, Written};

/// Separates these messages from everything else that is signed with Ed25519.
const TYP: &str = "relaytrace-attestation-v1";
/// Members of an entry that are not signed: known only in the statement that writes it, or the signature itself. Each of
/// `votes` has an attestation of its own.
const UNSIGNED: [&str; 5] = ["seq", "at", "epoch", "votes", "attestation"];

/// A decision as its decider knows it.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The request.
    pub request_id: RequestId,
    /// The outcome.
    pub outcome: Outcome,
    /// By what right.
    pub cause: Cause,
    /// The decider.
    pub actor: &'a Actor,
    /// The action that is decided on.
    pub action_digest: Digest,
    /// What an operator wrote instead of a plain yes; `action_digest` is then the asked action's.
    pub written: Option<&'a Written>,
    /// The reason given.
    pub reason: Option<&'a str>,
    /// The key that an agent called with; no other decision names one.
    pub key_id: Option<&'a str>,
    /// The stop by which a sweep rejects.
    pub freeze_id: Option<&'a str>,
}

impl Statement<'_> {
    /// The signed members as the `decided` entry has them.
    fn members(&self) -> Json {
        let edited = self.written.and_then(Written::action).map(|(_, digest)| digest);
        let response = self.written.and_then(Written::response).map(|(_, digest)| digest);
        Json::from([
            ("request_id", Some(self.request_id.to_string().into())),
            ("kind", Some("decided".into())),
            ("actor", Some(self.actor.in_entry())),
            ("outcome", Some(self.outcome.as_str().into())),
            ("cause", Some(self.cause.as_str().into())),
            ("action_digest", Some(edited.unwrap_or(self.action_digest).to_string().into())),
            ("reason", Some(self.reason.into())),
            ("key_id", self.key_id.map(Json::from)),
            ("freeze_id", self.freeze_id.map(Json::from)),
            ("requested_action_digest", edited.map(|_| self.action_digest.to_string().into())),
            ("edited", edited.map(|edited| Json::Bool(edited != self.action_digest))),
            ("response_digest", response.map(|response| response.to_string().into())),
        ])
    }
}

/// An approval that does not decide, as its voter's function knows it.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// The request.
    pub request_id: RequestId,
    /// The operator.
    pub actor: &'a Actor,
    /// The action that they saw.
    pub action_digest: Digest,
    /// The reason given.
    pub reason: Option<&'a str>,
}

impl Ballot<'_> {
    /// The signed members as the `voted` entry has them.
    fn members(&self) -> Json {
        let own = Json::from([("actor", Some(self.actor.in_entry())), ("reason", Some(self.reason.into()))]);
        with_those_of_each_vote(own, self.request_id.to_string().into(), self.action_digest.to_string().into())
    }
}

/// A vote with the signed members that the list of votes in a `decided` entry leaves out: those that all have alike.
fn with_those_of_each_vote(vote: Json, request_id: Json, action_digest: Json) -> Json {
    let Json::Object(mut members) = vote else { return vote };
    let all = [
        ("request_id", request_id),
        ("kind", "voted".into()),
        ("cause", Cause::Operator.as_str().into()),
        ("decision", "approve".into()),
        ("action_digest", action_digest),
    ];
    // What the entry says of them all wins over what a vote says itself.
    members.retain(|(name, _)| all.iter().all(|(of_all, _)| of_all != name));
    members.extend(all.map(|(name, value)| (name.to_owned(), value)));
    Json::Object(members)
}

/// The bytes that are signed: the RFC 8785 form of the entry's signed members and `typ`.
///
/// # Errors
/// [`Error::Internal`] where a `typ` is there already: replaced by this one, it would be a member that nobody signed.
fn message(entry: &Json) -> Result<Vec<u8>> {
    let typ = Json::from(TYP);
    let mut signed: Vec<_> = match entry {
        Json::Object(members) => members.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        _ => Vec::new(),
    };
    if entry.get("typ").is_some() {
        return Err(Error::internal(anyhow::anyhow!("an attested entry has no member typ")));
    }
    signed.retain(|(name, _)| !UNSIGNED.contains(name));
    signed.push(("typ", &typ));
    let mut message = Vec::with_capacity(1_024);
    write_canonical_object(signed, &mut message);
    Ok(message)
}

/// What an entry says of who attests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// By a listed key that may speak for the entry's cause.
    Valid,
    /// The entry has none, as all from before there were attestations.
    Absent,
    /// It does not hold, and why.
    Invalid(&'static str),
}

/// The public keys of the functions that decide, each with the causes that it may speak for.
#[derive(Clone, Debug, Default)]
pub struct AttestationKeys {
    listed: HashMap<String, Listed>,
    /// Signatures that hold: shared with the [`Attestor`]s that were made with these keys.
    known: Known,
}

#[derive(Clone, Debug)]
struct Listed {
    public: Vec<u8>,
    causes: Vec<String>,
}

impl AttestationKeys {
    /// Reads a JWK set (RFC 7517) whose keys have `causes`. Keys with another `use` than `attestation` are passed over.
    ///
    /// # Errors
    /// A sentence for the person who configures it.
    pub fn from_jwks(jwks: &Value) -> Result<Self, &'static str> {
        let keys = jwks.get("keys").and_then(Value::as_array).ok_or("is not a JWK set")?;
        let mut listed = HashMap::new();
        for jwk in keys.iter().filter(|jwk| jwk.get("use").is_none_or(|of| of == "attestation")) {
            let text = |name| jwk.get(name).and_then(Value::as_str);
            let x = text("x").filter(|_| text("kty") == Some("OKP") && text("crv") == Some("Ed25519"));
            let public = x.and_then(|x| BASE64_URL_SAFE_NO_PAD.decode(x).ok()).filter(|public| public.len() == 32);
            let public = public.ok_or("holds a key that is not Ed25519 (kty OKP, crv, x)")?;
            let causes: Option<Vec<String>> = jwk.get("causes").and_then(|causes| Vec::deserialize(causes).ok());
            let causes = causes.filter(|causes| !causes.is_empty()).ok_or("holds a key without causes")?;
            let key_id = text("kid").map_or_else(|| thumbprint(&public), str::to_owned);
            if listed.insert(key_id, Listed { public, causes }).is_some() {
                return Err("holds two keys of one kid");
            }
        }
        Ok(Self { listed, known: Known::default() })
    }

    /// The keys as they are published, in an order that does not change.
    #[must_use]
    pub fn jwks(&self) -> Vec<Value> {
        let mut keys: Vec<_> = self.listed.iter().collect();
        keys.sort_unstable_by_key(|(key_id, _)| *key_id);
        let jwk = |(key_id, key): (&String, &Listed)| {
            let x = BASE64_URL_SAFE_NO_PAD.encode(&key.public);
            json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key_id, "use": "attestation", "causes": key.causes})
        };
        keys.into_iter().map(jwk).collect()
    }

    /// Checks the attestation in the bytes of a `decided` or `voted` entry, and those of the votes that it lists.
    #[must_use]
    pub fn check(&self, entry: &[u8]) -> Attestation {
        // The profile refuses members of one name, of which readers take different ones, and numbers that a double does not
        // hold.
        let Ok(entry @ Json::Object(_)) = Json::parse(entry) else {
            return Attestation::Invalid("is in an entry that is no I-JSON object");
        };
        match self.check_own(&entry) {
            Attestation::Valid => self.check_votes(&entry).map_or_else(Attestation::Invalid, |()| Attestation::Valid),
            other => other,
        }
    }

    /// The votes that an entry lists: each attested, none twice, and of an approval the last is this decision itself.
    fn check_votes(&self, entry: &Json) -> Result<(), &'static str> {
        let Some(votes) = entry.get("votes") else { return Ok(()) };
        let Json::Array(votes) = votes else { return Err("is in an entry whose votes are no list") };
        let is_approval = text(entry, "outcome") == Some(Outcome::Approved.as_str());
        let (last, before) = if is_approval { split_last(votes) } else { (None, votes.as_slice()) };
        // The list comes from a column that keeps no order of members.
        let same = |vote: &Json, name| vote.get(name).map(Json::canonical) == entry.get(name).map(Json::canonical);
        let is_itself = |vote: &Json| ["seq", "at", "actor", "reason"].iter().all(|name| same(vote, name));
        if is_approval && !last.is_some_and(is_itself) {
            return Err("is in an entry whose last vote is another");
        }
        let of_entry = |name: &str| entry.get(name).cloned().into();
        for vote in before {
            if !matches!(vote, Json::Object(_)) {
                return Err("is in an entry with a vote that is no object");
            }
            let vote = with_those_of_each_vote(vote.clone(), of_entry("request_id"), of_entry("action_digest"));
            if self.check_own(&vote) != Attestation::Valid {
                return Err("is in an entry with a vote whose attestation does not hold");
            }
        }
        let mut voters: Vec<_> = votes.iter().flat_map(persons).collect();
        let all = voters.len();
        voters.sort_unstable();
        voters.dedup();
        if voters.len() == all { Ok(()) } else { Err("is in an entry in which somebody votes twice") }
    }

    /// Checks the attestation of an entry's own members.
    fn check_own(&self, entry: &Json) -> Attestation {
        let Some(attestation) = entry.get("attestation") else { return Attestation::Absent };
        let signature = text(attestation, "sig").and_then(|sig| BASE64_URL_SAFE_NO_PAD.decode(sig).ok());
        let (Some(key_id), Some(signature)) = (text(attestation, "kid"), signature) else {
            return Attestation::Invalid("has no kid or sig");
        };
        let Some(key) = self.listed.get(key_id) else { return Attestation::Invalid("is by a key that is not listed") };
        let cause = text(entry, "cause");
        if !key.causes.iter().any(|may| Some(may.as_str()) == cause) {
            return Attestation::Invalid("is by a key that may not speak for this cause");
        }
        // Administrators end what is asked and agents take it back. So a key that speaks for one of them approves nothing.
        let is_approval = text(entry, "outcome") == Some(Outcome::Approved.as_str());
        if is_approval && matches!(cause, Some("admin" | "agent")) {
            return Attestation::Invalid("is of an approval by a cause that approves nothing");
        }
        if text(entry, "kind") == Some("voted") && cause != Some("operator") {
            return Attestation::Invalid("is of a vote that no operator gave");
        }
        let holds = |message: Vec<u8>| {
            let check = || UnparsedPublicKey::new(&ED25519, &key.public).verify(&message, &signature).is_ok();
            self.known.holds(&key.public, &message, &signature, check)
        };
        if message(entry).is_ok_and(holds) { Attestation::Valid } else { Attestation::Invalid("does not verify") }
    }
}

/// The text of an object's member.
fn text<'a>(of: &'a Json, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Json::as_str)
}

fn split_last(votes: &[Json]) -> (Option<&Json>, &[Json]) {
    votes.split_last().map_or((None, votes), |(last, before)| (Some(last), before))
}

/// Who counts by a vote: the voter, and whom they acted for.
fn persons(vote: &Json) -> impl Iterator<Item = &str> {
    let actor = vote.get("actor");
    [actor, actor.and_then(|actor| actor.get("for"))].into_iter().flatten().filter_map(|person| text(person, "id"))
}

/// The private keys of a process, and which of them speaks for a cause.
#[derive(Default)]
pub struct Attestor {
    by_cause: HashMap<String, (String, std::sync::Arc<Ed25519KeyPair>)>,
    known: Known,
}

impl fmt::Debug for Attestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes: Vec<_> =
            self.by_cause.iter().map(|(cause, (key_id, _))| format!("{cause}: {key_id}")).collect();
        causes.sort_unstable();
        write!(f, "Attestor({})", causes.join(", "))
    }
}

impl Attestor {
    /// Ed25519 keys as PKCS#8 PEM, one block or several: a process that decides for more than one cause may hold a key
    /// for each. What a key may speak for is what its public half is listed with.
    ///
    /// # Errors
    /// A sentence for the person who configures it.
    pub fn from_pem(text: &SecretString, listed: &AttestationKeys) -> Result<Self, &'static str> {
        let blocks = pem::parse_many(text.expose_secret()).map_err(|_| "is not PEM")?;
        let mut by_cause = HashMap::new();
        for block in &blocks {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(block.contents())
                .map_err(|_| "holds what is not an Ed25519 private key in PKCS#8")?;
            let is_ours = |(_, key): &(&String, &Listed)| key.public == pair.public_key().as_ref();
            let (key_id, key) =
                listed.listed.iter().find(is_ours).ok_or("holds a key that ATTESTATION_JWKS does not list")?;
            let pair = std::sync::Arc::new(pair);
            by_cause.extend(key.causes.iter().map(|cause| (cause.clone(), (key_id.clone(), pair.clone()))));
        }
        if by_cause.is_empty() { Err("holds no key") } else { Ok(Self { by_cause, known: listed.known.clone() }) }
    }

    /// Whether a key here speaks for this cause.
    #[must_use]
    pub fn speaks_for(&self, cause: &str) -> bool {
        self.by_cause.contains_key(cause)
    }

    /// Signs: the JSON text of the entry's member `attestation`.
    ///
    /// # Errors
    /// [`Error::Internal`] where no key of this process speaks for the cause.
    pub fn attest(&self, statement: &Statement<'_>) -> Result<String> {
        self.sign(statement.cause.as_str(), &statement.members())
    }

    /// The same of a vote: the member `attestation` of its `voted` entry.
    ///
    /// # Errors
    /// [`Error::Internal`] where no key of this process speaks for operators.
    pub fn attest_vote(&self, ballot: &Ballot<'_>) -> Result<String> {
        self.sign(Cause::Operator.as_str(), &ballot.members())
    }

    fn sign(&self, cause: &str, members: &Json) -> Result<String> {
        let missing = || Error::internal(anyhow::anyhow!("no key of this process may attest the cause {cause}"));
        let (key_id, pair) = self.by_cause.get(cause).ok_or_else(missing)?;
        let message = message(members)?;
        let signature = pair.sign(&message);
        self.known.add(pair.public_key().as_ref(), &message, signature.as_ref());
        Ok(json!({"kid": key_id, "sig": BASE64_URL_SAFE_NO_PAD.encode(signature)}).to_string())
    }
}

/// The JWK that lists the public half of a private key (PKCS#8 PEM) with these causes.
///
/// # Errors
/// A sentence for the person who configures it.
pub fn attestation_jwk(private_key: &SecretString, causes: &[&str]) -> Result<Value, &'static str> {
    let pem = pem::parse(private_key.expose_secret()).map_err(|_| "is not PEM")?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pem.contents())
        .map_err(|_| "is not an Ed25519 private key in PKCS#8")?;
    let key_id = thumbprint(pair.public_key().as_ref());
    Ok(json!({
        "kty": "OKP", "crv": "Ed25519", "x": public(&pair), "kid": key_id, "use": "attestation", "causes": causes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "01990c3e-8f00-7000-8000-000000000001";

    /// The same value, to be changed.
    fn value(json: &Json) -> Value {
        serde_json::from_str(&json.to_string()).unwrap()
    }

    fn key() -> SecretString {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8.as_ref())).into()
    }

    fn listed(keys: &[(&SecretString, &[&str])]) -> AttestationKeys {
        let keys: Vec<_> = keys.iter().map(|(key, causes)| attestation_jwk(key, causes).unwrap()).collect();
        AttestationKeys::from_jwks(&json!({"keys": keys})).unwrap()
    }

    /// A `decided` entry as the statement writes it, by this attestor.
    fn entry(attestor: &Attestor) -> Value {
        let actor = Actor {
            kind: crate::ActorKind::Operator,
            id: "maria".into(),
            name: Some("Maria “K.” \u{1F600}".into()),
            acts_for: None,
        };
        let statement = Statement {
            request_id: REQUEST.parse().unwrap(),
            outcome: Outcome::Approved,
            cause: Cause::Operator,
            actor: &actor,
            action_digest: Digest::of(b"action"),
            written: None,
            reason: Some("within\nbudget"),
            key_id: None,
            freeze_id: None,
        };
        let mut entry = value(&statement.members());
        (entry["seq"], entry["at"]) = (2.into(), "2026-11-22T10:00:00.000000Z".into());
        entry["attestation"] = serde_json::from_str(&attestor.attest(&statement).unwrap()).unwrap();
        entry
    }

    fn check(keys: &AttestationKeys, entry: &Value) -> Attestation {
        keys.check(entry.to_string().as_bytes())
    }

    #[test]
    fn what_is_signed_holds_and_whatever_is_changed_does_not() {
        let key = key();
        let keys = listed(&[(&key, &["operator"])]);
        let attestor = Attestor::from_pem(&key, &keys).unwrap();
        let good = entry(&attestor);
        assert_eq!(check(&keys, &good), Attestation::Valid);
        let mut later = good.clone();
        (later["seq"], later["at"], later["epoch"]) = (5.into(), "2026-11-23T10:00:00.000000Z".into(), 2.into());
        assert_eq!(check(&keys, &later), Attestation::Valid, "only the statement knows seq, at and epoch");
        for (member, value) in [
            ("request_id", json!("01990c3e-8f00-7000-8000-000000000002")),
            ("kind", json!("voted")),
            ("outcome", json!("rejected")),
            ("actor", json!({"kind": "operator", "id": "jonas"})),
            ("action_digest", json!(Digest::of(b"another"))),
            ("reason", Value::Null),
            ("for", json!("jonas")),
            ("key_id", json!("another")),
            ("typ", json!("another")),
            ("typ", json!(TYP)),
            ("typ", Value::Null),
        ] {
            let mut forged = good.clone();
            forged[member] = value;
            assert_eq!(check(&keys, &forged), Attestation::Invalid("does not verify"), "{member}");
        }
        // Readers differ in which of two members of one name they take.
        let twice = good.to_string().replacen('{', r#"{"outcome":"rejected","#, 1);
        assert_eq!(keys.check(twice.as_bytes()), Attestation::Invalid("is in an entry that is no I-JSON object"));
        let mut without = good;
        without.as_object_mut().unwrap().remove("attestation");
        assert_eq!(check(&keys, &without), Attestation::Absent);
    }

    /// A `voted` entry as the statement writes it.
    fn voted(attestor: &Attestor, id: &str, seq: i32) -> Value {
        let actor = Actor { kind: crate::ActorKind::Operator, id: id.into(), name: None, acts_for: None };
        let ballot = Ballot {
            request_id: REQUEST.parse().unwrap(),
            actor: &actor,
            action_digest: Digest::of(b"action"),
            reason: Some("seen"),
        };
        let mut entry = value(&ballot.members());
        (entry["seq"], entry["at"]) = (seq.into(), "2026-11-22T09:00:00.000000Z".into());
        entry["attestation"] = serde_json::from_str(&attestor.attest_vote(&ballot).unwrap()).unwrap();
        entry
    }

    /// The same as the row of its request and the `decided` entry list it.
    fn listed_vote(voted: &Value) -> Value {
        let names = ["seq", "at", "actor", "reason", "attestation"];
        names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), voted.get(name)?.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    #[test]
    fn votes_are_attested_one_by_one_and_nobody_is_listed_twice() {
        let (people, agents) = (key(), key());
        let keys = listed(&[(&people, &["operator"]), (&agents, &["agent"])]);
        let attestor = Attestor::from_pem(&people, &keys).unwrap();
        let (first, second) = (voted(&attestor, "ana", 2), voted(&attestor, "ben", 3));
        assert_eq!(check(&keys, &first), Attestation::Valid);
        let mut decided = entry(&attestor);
        let own = listed_vote(&decided);
        let mut with = |votes: Vec<Value>| {
            decided["votes"] = votes.into();
            check(&keys, &decided)
        };
        let (one, two) = (listed_vote(&first), listed_vote(&second));
        assert_eq!(with(vec![one.clone(), two.clone(), own.clone()]), Attestation::Valid);
        assert!(
            matches!(with(vec![one.clone(), one.clone(), own.clone()]), Attestation::Invalid(why) if why.contains("twice"))
        );
        assert!(matches!(with(vec![one.clone(), two.clone()]), Attestation::Invalid(why) if why.contains("last vote")));
        for (member, value) in [
            ("actor", json!({"kind": "operator", "id": "eve"})),
            ("reason", json!("another")),
            ("attestation", Value::Null),
            ("attestation", own["attestation"].clone()),
            ("for", json!("jonas")),
        ] {
            let mut forged = one.clone();
            forged[member] = value;
            assert!(
                matches!(with(vec![forged, own.clone()]), Attestation::Invalid(why) if why.contains("vote whose")),
                "{member}"
            );
        }
        decided["votes"] = vec![one, two, own].into();
        let in_order = decided.to_string();
        let otherwise = in_order.replacen(r#""id":"maria","kind":"operator""#, r#""kind":"operator","id":"maria""#, 1);
        assert_ne!(otherwise, in_order);
        assert_eq!(keys.check(otherwise.as_bytes()), Attestation::Valid, "the same actor in another order");
        // A decision's signature is none of a vote, nor the other way round.
        let mut as_decision = first.clone();
        as_decision["kind"] = json!("decided");
        assert_eq!(check(&keys, &as_decision), Attestation::Invalid("does not verify"));
    }

    #[test]
    fn a_key_speaks_for_its_own_causes_only() {
        let (people, agents) = (key(), key());
        let keys = listed(&[(&people, &["operator"]), (&agents, &["agent", "policy"])]);
        let theirs = Attestor::from_pem(&agents, &keys).unwrap();
        assert!(theirs.speaks_for("agent") && !theirs.speaks_for("operator"));
        // The same key, listed elsewhere for what it may not say here.
        let elsewhere = listed(&[(&agents, &["operator"])]);
        let forged = entry(&Attestor::from_pem(&agents, &elsewhere).unwrap());
        assert_eq!(check(&keys, &forged), Attestation::Invalid("is by a key that may not speak for this cause"));
        let unlisted = listed(&[(&people, &["operator"])]);
        assert_eq!(check(&unlisted, &forged), Attestation::Invalid("is by a key that is not listed"));
        assert!(Attestor::from_pem(&agents, &unlisted).is_err());
    }

    #[test]
    fn a_key_that_speaks_for_administrators_or_agents_approves_nothing() {
        let (sweep, actor) = (key(), Actor::timeout_sweep());
        let keys = listed(&[(&sweep, &["timeout", "admin", "agent"])]);
        let attestor = Attestor::from_pem(&sweep, &keys).unwrap();
        for (cause, outcome, holds) in [
            (Cause::Admin, Outcome::Rejected, true),
            (Cause::Admin, Outcome::Approved, false),
            (Cause::Agent, Outcome::Cancelled, true),
            (Cause::Agent, Outcome::Approved, false),
            (Cause::Timeout, Outcome::Approved, true),
        ] {
            let statement = Statement {
                request_id: REQUEST.parse().unwrap(),
                outcome,
                cause,
                actor: &actor,
                action_digest: Digest::of(b"action"),
                written: None,
                reason: Some("the key was stolen"),
                key_id: None,
                freeze_id: Some("incident-7"),
            };
            let mut entry = value(&statement.members());
            assert_eq!(entry["freeze_id"], "incident-7");
            entry["attestation"] = serde_json::from_str(&attestor.attest(&statement).unwrap()).unwrap();
            assert_eq!(check(&keys, &entry) == Attestation::Valid, holds, "{cause:?} {outcome:?}");
        }
    }

    #[test]
    fn the_message_is_the_canonical_form_that_the_contract_shows() {
        let actor = Actor::timeout_sweep();
        let statement = Statement {
            request_id: REQUEST.parse().unwrap(),
            outcome: Outcome::Rejected,
            cause: Cause::Timeout,
            actor: &actor,
            action_digest: Digest([0; 32]),
            written: None,
            reason: None,
            key_id: None,
            freeze_id: None,
        };
        let zeros = "0".repeat(64);
        let expected = format!(
            r#"{{"action_digest":"sha256:{zeros}","actor":{{"id":"timeout-sweep","kind":"system"}},"cause":"timeout","kind":"decided","outcome":"rejected","reason":null,"request_id":"{REQUEST}","typ":"relaytrace-attestation-v1"}}"#
        );
        assert_eq!(String::from_utf8(message(&statement.members()).unwrap()).unwrap(), expected);
    }

    #[test]
    fn lists_that_say_too_little_are_refused() {
        let key = key();
        let good = attestation_jwk(&key, &["operator"]).unwrap();
        for (member, value) in
            [("causes", json!([])), ("causes", json!("operator")), ("crv", json!("P-256")), ("x", json!("AA"))]
        {
            let mut bad = good.clone();
            bad[member] = value;
            assert!(AttestationKeys::from_jwks(&json!({"keys": [bad]})).is_err(), "{member}");
        }
        assert!(AttestationKeys::from_jwks(&json!({"keys": [good, good]})).is_err());
        assert!(AttestationKeys::from_jwks(&json!([])).is_err());
    }
}
