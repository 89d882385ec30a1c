// What is between the client and the relay, or configured wrongly: each is an error that says what to do, never an approval.

import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import * as sdk from "../dist/index.js";
import { decide, newAgent, stack } from "./stack.mjs";

const ACTION = ["refund.create", { amount: "12.40" }];
const impatient = { patienceSeconds: 1, trySeconds: 1 };

async function fails(options, kind, says) {
  const relay = new sdk.Relay({ ...options, ...impatient });
  await assert.rejects(
    relay.ask(...ACTION, {}, () => assert.fail("it ran")),
    (error) => {
      assert.equal(error.constructor, kind, error.stack);
      assert.match(error.message, says);
      assert.match(sdk.textForModel(error), /did not run/);
      return true;
    },
  );
}

/** A server between client and relay. */
async function between(t, answer) {
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => response.destroy(error));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close().closeAllConnections());
  return `http://127.0.0.1:${server.address().port}`;
}

/** Sends the call on, changed by `change`, and hands back the relay's own answer, changed by `spoil`. */
async function relayed(request, response, { change = (path) => path, spoil = (body) => body } = {}) {
  const chunks = (await Array.fromAsync?.(request)) ?? (await request.toArray());
  const { host, connection, "content-length": _, ...headers } = request.headers;
  const body = chunks.length > 0 ? Buffer.concat(chunks) : undefined;
  const answer = await fetch(stack.base_url + change(request.url), { method: request.method, headers, body });
  const bytes = Buffer.from(await answer.arrayBuffer());
  response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(spoil(bytes));
}

test("a wrong path, a page and a redirect are a wrong address", async (t) => {
  const options = await newAgent();
  await fails({ ...options, url: `${stack.base_url}/elsewhere` }, sdk.WrongUrl, /RELAYTRACE_URL/);
  const page = await between(t, async (_, response) =>
    response.writeHead(200, { "content-type": "text/html" }).end("<p>Hello"),
  );
  await fails({ ...options, url: page }, sdk.WrongUrl, /text\/html.*RELAYTRACE_URL/);
  const moved = await between(t, async (_, response) =>
    response.writeHead(302, { location: "https://sso.example/" }).end(),
  );
  await fails({ ...options, url: moved }, sdk.WrongUrl, /sso\.example/);
});

test("a key that the relay does not know, also that of another deployment", async () => {
  const options = await newAgent();
  const privateKey = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
  await fails({ ...options, privateKey }, sdk.WrongKey, /does not accept the key.*deployment/);
  await fails({ ...options, keyId: "of-elsewhere" }, sdk.WrongKey, /of-elsewhere/);
});

test("a response secret of another key", async () => {
  const options = await newAgent();
  await fails(
    { ...options, responseSecret: randomBytes(32).toString("base64") },
    sdk.WrongSecret,
    /RELAYTRACE_RESPONSE_SECRET/,
  );
});

test("a clock that is wrong", async (t) => {
  const options = await newAgent();
  const real = Date.now;
  t.after(() => {
    Date.now = real;
  });
  Date.now = () => real() - 600_000;
  await fails(options, sdk.WrongClock, /600 s behind|599 s behind|601 s behind/);
});

test("a relay that is down, and one that is slow", async (t) => {
  const options = await newAgent();
  const silent = await between(t, () => new Promise(() => {}));
  await fails({ ...options, url: silent }, sdk.TooSlow, /did not answer within 1 s/);
  const busy = await between(t, async (_, response) => response.writeHead(502).end("bad gateway"));
  await fails({ ...options, url: busy }, sdk.Unavailable, /502/);
  await fails({ ...options, url: "http://127.0.0.1:1" }, sdk.Unreachable, /ECONNREFUSED|cannot be reached/);
});

test("a gateway that fails for a while is waited out", async (t) => {
  let left = 3;
  const url = await between(t, async (request, response) => {
    if (left-- > 0) response.writeHead(503).end();
    else await relayed(request, response);
  });
  const relay = new sdk.Relay({ ...(await newAgent()), url });
  assert.equal((await relay.submit(...ACTION)).duplicate, false);
});

test("an answer that something changed on its way", async (t) => {
  const url = await between(t, (request, response) =>
    relayed(request, response, {
      spoil: (body) => Buffer.from(body.toString().replace('"rejected"', '"approved"').replace("pending", "decided")),
    }),
  );
  await fails({ ...(await newAgent()), url }, sdk.Unverified, /changed it/);
});

test("a genuine answer to another question: the approved request of the same agent", async (t) => {
  const options = await newAgent();
  const direct = new sdk.Relay(options);
  const other = await direct.submit(...ACTION, { key: "other" });
  await decide(direct, "approve");
  const url = await between(t, (request, response) =>
    relayed(request, response, {
      change: (path) =>
        path.replace(/wait_seconds=\d+/, "wait_seconds=0").replace(/(?<=\/requests\/)[^/]+$/, other.request_id),
    }),
  );
  await fails({ ...options, url }, sdk.OtherAnswer, /another request/);
});

test("an approval by whoever answers without the secret", async (t) => {
  const url = await between(t, async (request, response) => {
    const [body] = await request.toArray();
    const { agent_id, client_request_key } = JSON.parse(body);
    const decision = { request_id: "r", client_request_key, outcome: "approved", cause: "operator" };
    response
      .writeHead(201, { "content-type": "application/json" })
      .end(JSON.stringify({ agent_id, request_id: "r", client_request_key, decision }));
  });
  await fails({ ...(await newAgent()), url }, sdk.WrongUrl, /without the relay's signature/);
});
