// Attestations of decisions and the digests of what operators wrote, against the fixed vectors: node:crypto alone.

import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const vectors = JSON.parse(readFileSync(new URL("../../contract/vectors/decisions.json", import.meta.url)));

// RFC 8785: the order of members is that of UTF-16 code units, and the rest is what JSON.stringify does.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

const digest = (text) => `sha256:${createHash("sha256").update(canonical(JSON.parse(text))).digest("hex")}`;

// What is signed of an entry.
function signed({ seq, at, attestation, ...members }) {
  return Buffer.from(canonical({ ...members, typ: "relaytrace-attestation-v1" }));
}

function holds(entry) {
  const key = vectors.keys.find(({ kid }) => kid === entry.attestation?.kid);
  if (!key?.causes.includes(entry.cause)) return false;
  const { kty, crv, x } = key;
  const signature = Buffer.from(entry.attestation.sig, "base64url");
  return verify(null, signed(entry), createPublicKey({ key: { kty, crv, x }, format: "jwk" }), signature);
}

const changes = {
  outcome: (entry) => { entry.outcome = entry.outcome === "approved" ? "rejected" : "approved"; },
  cause: (entry) => { entry.cause = entry.cause === "agent" ? "operator" : "agent"; },
  "who decided": (entry) => { entry.actor.id = "jonas"; },
  action: (entry) => { entry.action_digest = digest("{}"); },
  "whether it was edited": (entry) => { entry.edited = !entry.edited; },
  response: (entry) => { entry.response_digest = digest('"another"'); },
  reason: (entry) => { entry.reason = "another"; },
  request: (entry) => { entry.request_id = entry.request_id.replace("0192", "0193"); },
  "a member more": (entry) => { entry.for = "jonas"; },
  "its key": (entry) => { entry.attestation.kid = vectors.keys.find(({ kid }) => kid !== entry.attestation.kid).kid; },
  "no attestation": (entry) => { delete entry.attestation; },
};

test("the asked action has its digest", () => assert.equal(digest(vectors.asked), vectors.asked_digest));

for (const vector of vectors.decisions) {
  const entry = () => JSON.parse(Buffer.from(vector.entry, "base64"));

  test(`${vector.name}: the attestation holds`, () => {
    assert.equal(signed(entry()).toString("base64"), vector.signed_utf8_base64);
    assert.equal(holds(entry()), true);
  });

  test(`${vector.name}: the digests are those of what was asked and written`, () => {
    const { outcome, action_digest, requested_action_digest, edited, response_digest } = entry();
    const written = vector.written === undefined ? undefined : digest(vector.written);
    const [edit, response] = outcome === "responded" ? [undefined, written] : [written, undefined];
    assert.equal(written, vector.digest);
    assert.equal(action_digest, edit ?? vectors.asked_digest);
    assert.equal(requested_action_digest, edit && vectors.asked_digest);
    assert.equal(edited, edit && edit !== vectors.asked_digest);
    assert.equal(response_digest, response);
  });

  test(`${vector.name}: place and time are the database's to say`, () => {
    assert.equal(holds({ ...entry(), seq: 9, at: "2027-01-01T00:00:00.000000Z" }), true);
  });

  for (const [what, change] of Object.entries(changes)) {
    test(`${vector.name}: ${what} changed is refused`, () => {
      const changed = entry();
      change(changed);
      assert.equal(holds(changed), false);
    });
  }
}
