// The verifier against the fixed vectors, at the time they were made for.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { verify } from "./verify.mjs";

const vectors = JSON.parse(readFileSync(new URL("../../contract/vectors/response-signatures.json", import.meta.url)));

function exchangeOf(vector) {
  const { signature_base, ...headers } = vector.expected;
  return {
    request: structuredClone(vector.request),
    response: {
      status: vector.response.status,
      headers: { "content-type": vector.response.content_type, ...headers },
      body_base64: Buffer.from(vector.response.body).toString("base64"),
    },
    secret_base64: vector.secret_base64,
  };
}

const changes = {
  "a byte of the body": ({ response }) => {
    const body = Buffer.from(response.body_base64, "base64");
    body[1] ^= 1;
    response.body_base64 = body.toString("base64");
  },
  "the status": ({ response }) => { response.status = 299; },
  "the content type": ({ response }) => { response.headers["content-type"] = "text/html"; },
  "the method": ({ request }) => { request.method = "PUT"; },
  "the nonce": ({ request }) => { request.headers["relaytrace-nonce"] = "another-nonce-00001"; },
  "the secret": (exchange) => { exchange.secret_base64 = Buffer.alloc(32).toString("base64"); },
  "the tag": ({ response }) => {
    response.headers["signature-input"] = response.headers["signature-input"].replace("relaytrace-response", "other");
  },
  "the components": ({ response }) => {
    response.headers["signature-input"] = response.headers["signature-input"].replace('"content-digest" ', "");
  },
  "no signature": ({ response }) => { delete response.headers.signature; },
  "nothing signed": ({ response }) => {
    delete response.headers.signature;
    delete response.headers["signature-input"];
  },
};

for (const vector of vectors) {
  test(`${vector.name}: verifies`, async (t) => {
    t.mock.timers.enable({ apis: ["Date"], now: vector.created * 1000 });
    assert.equal(await verify(exchangeOf(vector)), true);
  });

  for (const [what, change] of Object.entries(changes)) {
    test(`${vector.name}: ${what} changed is refused`, async (t) => {
      t.mock.timers.enable({ apis: ["Date"], now: vector.created * 1000 });
      const exchange = exchangeOf(vector);
      change(exchange);
      assert.equal(await verify(exchange), false);
    });
  }

  for (const late of [-29, -8, 60, 89]) {
    test(`${vector.name}: verifies ${late} s later`, async (t) => {
      t.mock.timers.enable({ apis: ["Date"], now: (vector.created + late) * 1000 });
      assert.equal(await verify(exchangeOf(vector)), true);
    });
  }

  for (const late of [-45, 105]) {
    test(`${vector.name}: ${late} s later the clock is named`, async (t) => {
      t.mock.timers.enable({ apis: ["Date"], now: (vector.created + late) * 1000 });
      const said = t.mock.method(console, "error", () => {});
      assert.equal(await verify(exchangeOf(vector)), false);
      assert.match(said.mock.calls[0].arguments[0], new RegExp(`clock is ${Math.abs(late)} s (behind|ahead of)`));
    });
  }

  for (const late of [-3600, -31, 91, 3600]) {
    test(`${vector.name}: refused ${late} s later`, async (t) => {
      t.mock.timers.enable({ apis: ["Date"], now: (vector.created + late) * 1000 });
      assert.equal(await verify(exchangeOf(vector)), false);
    });
  }
}
