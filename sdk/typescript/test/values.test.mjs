// What needs no relay: digests, values, configuration, texts, signatures against the fixed vectors.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as sdk from "../dist/index.js";
import { canonical, snapshot } from "../dist/json.js";
import { importSecret, verify } from "../dist/signature.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../contract/vectors/${name}.json`, import.meta.url)));

test("digests are those of the contract's vectors", async () => {
  for (const { action, action_digest, canonical_utf8_base64 } of vectors("action-digests")) {
    assert.equal(Buffer.from(canonical(action)).toString("base64"), canonical_utf8_base64);
    assert.equal(await sdk.actionDigest(action), action_digest);
  }
});

test("votes of a receipt are of different operators and end with its decision", async () => {
  const { privateKey, publicKey } = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const keys = { keys: [{ ...(await crypto.subtle.exportKey("jwk", publicKey)), kid: "k", use: "sig" }] };
  const by = (id) => ({ kind: "operator", id, name: null });
  const told = {
    request_id: "r",
    client_request_key: "k",
    cause: "operator",
    decided_by: by("cem"),
    action_digest: "d",
  };
  const decision = async (outcome, ...voters) => {
    const { request_id: sub, ...claims } = told;
    const votes = voters.map((id) => ({ voted_by: by(id), voted_at: "2026-11-27T10:00:00Z" }));
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const header = part({ alg: "EdDSA", typ: "relaytrace-receipt+jwt", kid: "k" });
    const signed = `${header}.${part({ ...claims, sub, iss: "relay", outcome, votes, chain_head: "h", chain_length: 4 })}`;
    const signature = Buffer.from(await crypto.subtle.sign("Ed25519", privateKey, Buffer.from(signed)));
    return {
      ...told,
      outcome,
      chain: { head: "h", length: 4 },
      receipt: `${signed}.${signature.toString("base64url")}`,
    };
  };
  const receipt = await sdk.verifyReceipt(await decision("approved", "ana", "ben", "cem"), keys);
  assert.deepEqual(
    receipt.votes.map(({ voted_by }) => voted_by.id),
    ["ana", "ben", "cem"],
  );
  await sdk.verifyReceipt(await decision("approved"), keys);
  await sdk.verifyReceipt(await decision("rejected", "ana"), keys);
  for (const voters of [
    ["ana", "ana", "cem"],
    ["ana", "ben"],
  ]) {
    await assert.rejects(
      decision("approved", ...voters).then((made) => sdk.verifyReceipt(made, keys)),
      sdk.WrongReceipt,
    );
  }
});

const cyclic = {};
cyclic.self = cyclic;
const refused = {
  NaN: [{ a: [Number.NaN] }, "/a/0"],
  infinity: [{ a: Number.POSITIVE_INFINITY }, "/a"],
  "an integer beyond 2^53 − 1": [{ a: 2 ** 53 }, "/a"],
  "a BigInt": [{ a: 1n }, "/a"],
  "a Date": [{ "a/b": new Date() }, "/a~1b"],
  "a Map": [{ a: new Map() }, "/a"],
  "a function": [{ a: () => {} }, "/a"],
  "a hole in a list": [{ a: [undefined] }, "/a/0"],
  "a lone surrogate": [{ a: "\ud800" }, "/a"],
  "U+0000": [{ a: "\0" }, "/a"],
  "a cycle": [cyclic, undefined],
};
for (const [what, [value, pointer]] of Object.entries(refused)) {
  test(`${what} is refused, with its place`, () => {
    assert.throws(
      () => snapshot(value),
      (error) => error instanceof sdk.UnsupportedValue && (pointer === undefined || error.pointer === pointer),
    );
  });
}

test("a snapshot does not change with its original, and cannot be changed", () => {
  const original = { list: [1], left: undefined, ["__proto__"]: 1 };
  const copy = snapshot(original);
  original.list.push(2);
  assert.deepEqual(Object.keys(copy), ["list", "__proto__"]);
  assert.deepEqual(copy.list, [1]);
  assert.throws(() => copy.list.push(2), TypeError);
});

const exchanges = vectors("response-signatures").filter(({ request }) => request.headers["relaytrace-nonce"]);
const changes = {
  "a byte of the body": (x) => (x.received.body[0] ^= 1),
  "the status": (x) => {
    x.received.status += 1;
  },
  "the method": (x) => {
    x.expected.method = "PUT";
  },
  "the nonce": (x) => {
    x.expected.nonce += "x";
  },
  "the content type": (x) => x.received.headers.set("content-type", "text/html"),
  "the tag": (x) => edit(x, "signature-input", (text) => text.replace("relaytrace-response", "other")),
  "the components": (x) => edit(x, "signature-input", (text) => text.replace(' "relaytrace-nonce";req', "")),
  "no signature": (x) => x.received.headers.delete("signature"),
  "a second signature": (x) => x.received.headers.append("signature", x.received.headers.get("signature")),
  "the secret": async (x) => {
    x.expected.secret = await importSecret(new Uint8Array(32));
  },
  "the time, 91 s later": (x) => {
    x.expected.now += 91;
  },
  "the time, 31 s earlier": (x) => {
    x.expected.now -= 31;
  },
};

function edit({ received: { headers } }, name, change) {
  headers.set(name, change(headers.get(name)));
}

async function exchangeOf({ request, response, expected, secret_base64, key_id, created }) {
  const { signature_base, ...signed } = expected;
  return {
    received: {
      status: response.status,
      headers: new Headers({ "content-type": response.content_type, ...signed }),
      body: Uint8Array.from(Buffer.from(response.body)),
    },
    expected: {
      method: request.method,
      nonce: request.headers["relaytrace-nonce"],
      keyId: key_id,
      secret: await importSecret(Uint8Array.from(Buffer.from(secret_base64, "base64"))),
      now: created,
    },
  };
}

for (const vector of exchanges) {
  test(`${vector.name}: verifies, beside another's signature too`, async () => {
    const exchange = await exchangeOf(vector);
    await verify(exchange.expected, exchange.received);
    edit(exchange, "signature", (text) => `proxy=:AAAA:, ${text}`);
    edit(exchange, "signature-input", (text) => `proxy=("@status");nonce="a, relaytrace=b", ${text}`);
    await verify(exchange.expected, exchange.received);
  });
  for (const [what, change] of Object.entries(changes)) {
    test(`${vector.name}: ${what} changed is refused`, async () => {
      const exchange = await exchangeOf(vector);
      await change(exchange);
      await assert.rejects(verify(exchange.expected, exchange.received), sdk.NoAnswer);
    });
  }
}

test("all faults of a configuration are named together, and none of its secrets", () => {
  assert.throws(
    () => new sdk.Relay({ url: "relay", token: "rtk_secret" }),
    ({ message }) =>
      /RELAYTRACE_URL.*RELAYTRACE_TOKEN.*RELAYTRACE_AGENT_ID.*RELAYTRACE_RESPONSE_SECRET/.test(message) &&
      !message.includes("rtk_secret"),
  );
});

test("six answers are six texts for a model", () => {
  const decision = (members) => ({
    request_id: "r",
    reason: "too much",
    decided_by: { kind: "operator", id: "maria", name: "Maria" },
    cause: "operator",
    ...members,
  });
  const texts = [
    new sdk.StillPending("r", "k"),
    new sdk.TimedOut(decision({ cause: "timeout" })),
    new sdk.Rejected(decision({})),
    new sdk.Rejected(decision({ cause: "policy", decided_by: { kind: "system", id: "rule:limits@3" } })),
    new sdk.Cancelled(decision({})),
    new sdk.AlreadyUsed(decision({})),
  ].map(sdk.textForModel);
  assert.equal(new Set(texts).size, 6);
  assert.match(texts[2], /Maria.*too much/);
  for (const text of texts) assert.match(text, /not run/);
});
