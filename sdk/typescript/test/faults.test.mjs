// What can be wrong between an agent and its relay, as one table: each row is a typed error that says what to do; nothing
// runs, and no approval is used. The relay is the real one, and every request of the agent is approved as soon as it is
// asked. A small server between them tells the lies. The rows are those of sdk/python.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import * as sdk from "../dist/index.js";
import { allOf, approving, call, decide, newAgent, newBearerAgent, stack } from "./stack.mjs";

const ACTION = ["refund.create", { amount: "12.40" }];
const impatient = { patienceSeconds: 2, trySeconds: 1 };

/** A server that answers with `lie`, which may ask the relay itself. Its address. */
async function between(t, lie) {
  const server = createServer(async (request, response) => {
    try {
      const { host, connection, "content-length": _, ...headers } = request.headers;
      const asked = {
        method: request.method,
        path: request.url,
        headers,
        body: Buffer.concat(await request.toArray()),
      };
      const told = await lie(asked, ask);
      if (!told) request.socket.destroy();
      else response.writeHead(told.status, told.headers).end(told.body);
    } catch {
      response.destroy();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close().closeAllConnections());
  return { url: `http://127.0.0.1:${server.address().port}` };
}

async function ask({ method, path, headers, body }) {
  const answer = await fetch(stack.base_url + path, { method, headers, body: body.length > 0 ? body : undefined });
  return {
    status: answer.status,
    headers: Object.fromEntries(answer.headers),
    body: Buffer.from(await answer.arrayBuffer()),
  };
}

/** A lie that changes the relay's own answer. */
const spoiling = (change) => async (asked, ask) => {
  const told = await ask(asked);
  return { ...told, ...change(told) };
};

/** The answer to a submission as an approval. */
function forged({ body }) {
  const answer = JSON.parse(body);
  const { request_id, client_request_key, action_digest, created_at: decided_at } = answer;
  answer.status = "decided";
  answer.decision = {
    ...{ request_id, client_request_key, action_digest, decided_at, outcome: "approved", cause: "operator" },
    ...{ decided_by: { kind: "operator", id: "maria" }, chain: { length: 2, head: action_digest }, receipt: "a.b.c" },
  };
  return Buffer.from(JSON.stringify(answer));
}

const hello = async () => ({ status: 200, headers: { "content-type": "text/html" }, body: "<p>Hello" });

/** What is wrong: the options of a client, made of those of an agent; the error; what its message says. */
const TABLE = {
  "nothing listens": [() => ({ url: "http://127.0.0.1:1" }), sdk.Unreachable, /RELAYTRACE_URL/],
  "an unknown host": [() => ({ url: "http://relay.invalid" }), sdk.WrongUrl, /RELAYTRACE_URL/],
  "TLS where there is none": [({ url }) => ({ url: url.replace("http:", "https:") }), sdk.WrongUrl, /RELAYTRACE_URL/],
  "a wrong path": [({ url }) => ({ url: `${url}/elsewhere` }), sdk.WrongUrl, /RELAYTRACE_URL/],
  "a page": [(_, t) => between(t, hello), sdk.WrongUrl, /text\/html.*RELAYTRACE_URL/],
  "a sign-in": [
    (_, t) => between(t, async () => ({ status: 302, headers: { location: "https://sso.example/" } })),
    sdk.WrongUrl,
    /sso\.example.*RELAYTRACE_URL/,
  ],
  "an unknown key": [() => ({ keyId: "k-of-another" }), sdk.WrongKey, /k-of-another.*RELAYTRACE_URL/],
  "a bearer key of another deployment": [
    () => ({ token: `rtk_k-of-another_${"x".repeat(43)}`, keyId: undefined, privateKey: undefined }),
    sdk.WrongKey,
    /RELAYTRACE_URL/,
  ],
  "another private key": [
    () => ({ privateKey: generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }) }),
    sdk.WrongKey,
    /RELAYTRACE_URL/,
  ],
  "a disabled agent": [
    async () => {
      const other = await newAgent();
      await call(`/v1/admin/agents/${other.agentId}`, stack.admin.token, { status: "disabled" }, "PATCH");
      return other;
    },
    sdk.WrongKey,
    /disabled/,
  ],
  "the secret of another key": [
    () => ({ responseSecret: randomBytes(32).toString("base64") }),
    sdk.WrongSecret,
    /RELAYTRACE_RESPONSE_SECRET/,
  ],
  "answers of another deployment, which knows the agent's name, and signs for its own key": [
    async (_, t) => {
      const { token } = await newBearerAgent();
      return between(t, (asked, ask) =>
        ask({ ...asked, headers: { ...asked.headers, authorization: `Bearer ${token}` } }),
      );
    },
    sdk.WrongDeployment,
    /RELAYTRACE_URL/,
  ],
  "a relay that is away behind a gateway": [
    (_, t) => between(t, async () => ({ status: 502, body: "bad gateway" })),
    sdk.Unavailable,
    /502/,
  ],
  "too many calls": [
    (_, t) => between(t, async () => ({ status: 429, headers: { "retry-after": "1" }, body: "slow down" })),
    sdk.Unavailable,
    /429/,
  ],
  "a relay that is slow": [(_, t) => between(t, () => new Promise(() => {})), sdk.TooSlow, /within 1 s/],
  "an answer that is cut off": [(_, t) => between(t, async () => undefined), sdk.Unreachable, /RELAYTRACE_URL/],
  "an endless answer": [
    (_, t) =>
      between(t, async () => ({
        status: 200,
        headers: { "content-type": "application/json" },
        body: Buffer.alloc(5 << 20, " "),
      })),
    sdk.Unreachable,
    /bytes/,
  ],
  "an approval without a signature": [
    (_, t) =>
      between(
        t,
        spoiling((told) => ({ headers: { "content-type": "application/json" }, body: forged(told) })),
      ),
    sdk.Unverified,
    /not signed/,
  ],
  "an answer that was changed to an approval": [
    (_, t) =>
      between(
        t,
        spoiling((told) => ({
          headers: { ...told.headers, "content-length": forged(told).length },
          body: forged(told),
        })),
      ),
    sdk.Unverified,
    /changed/,
  ],
  "an answer that was changed with its digest": [
    (_, t) =>
      between(
        t,
        spoiling((told) => {
          const body = forged(told);
          const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
          return { headers: { ...told.headers, "content-length": body.length, "content-digest": digest }, body };
        }),
      ),
    sdk.WrongSecret,
    /changed on its way/,
  ],
  "an older answer": [
    (_, t) => {
      const kept = [];
      return between(t, async (asked, ask) => {
        kept.push(await ask(asked));
        return kept.length > 1 ? kept[0] : { status: 503 };
      });
    },
    sdk.WrongSecret,
    /changed on its way/,
  ],
  "an answer for another request, signed for this very call": [
    async (options, t) => {
      const direct = new sdk.Relay(options);
      const other = await direct.submit(...ACTION, { key: "other" });
      await decide(direct, "approve");
      return between(t, (asked, ask) =>
        ask({ ...asked, path: asked.path.replace(/(?<=\/requests\/)[^/?]+(?=$|\?)/, other.request_id) }),
      );
    },
    sdk.OtherAnswer,
    /another request/,
  ],
  "an outcome of another version": [
    async (_, t) => ({
      ...(await between(
        t,
        spoiling(({ headers, body }) => {
          const renamed = body.toString().replace('"outcome":"approved"', '"outcome":"allowed"');
          return { headers: { "content-type": headers["content-type"] }, body: renamed };
        }),
      )),
      verify: false,
    }),
    sdk.UnknownOutcome,
    /update/,
  ],
  "an approval of something else, where answers are not verified": [
    async (_, t) => ({
      ...(await between(
        t,
        spoiling(({ headers, body }) => {
          const answer = JSON.parse(body);
          if (answer.decision) answer.decision.action_digest = `sha256:${"0".repeat(64)}`;
          return { headers: { "content-type": headers["content-type"] }, body: JSON.stringify(answer) };
        }),
      )),
      verify: false,
    }),
    sdk.OtherAnswer,
    /digest/,
  ],
};

for (const [what, [change, kind, says]] of Object.entries(TABLE)) {
  test(`${what} is ${kind.name}, and nothing runs`, async (t) => {
    const options = await newAgent();
    const changed = { ...options, ...impatient, ...(await change(options, t)) };
    await approving(options.agentId, () =>
      assert.rejects(
        new sdk.Relay(changed).ask(...ACTION, {}, () => assert.fail("it ran")),
        (error) => {
          assert.equal(error.constructor, kind, error.stack);
          assert.match(error.message, says);
          assert.match(sdk.textForModel(error), /did not run/);
          return true;
        },
      ),
    );
    for (const { execution } of await allOf(options)) assert.match(execution, /^(none|waiting)$/);
  });
}

for (const [what, agent] of [
  ["signs", newAgent],
  ["has a bearer key", newBearerAgent],
]) {
  for (const ahead of [-3_600, 3_600]) {
    test(`the clock of an agent that ${what} is ${ahead} s ahead`, async (t) => {
      const options = await agent();
      const real = Date.now;
      t.after(() => {
        Date.now = real;
      });
      Date.now = () => real() + ahead * 1_000;
      await assert.rejects(
        new sdk.Relay({ ...options, ...impatient }).ask(...ACTION, {}, () => assert.fail("it ran")),
        (error) => error instanceof sdk.WrongClock && Math.abs(error.aheadSeconds - ahead) < 120,
      );
    });
  }
}

test("an address that never answers is not tried for as long as a relay that was there", {
  timeout: 60_000,
}, async () => {
  const relay = new sdk.Relay({ ...(await newAgent()), url: "http://127.0.0.1:1" });
  await assert.rejects(relay.submit(...ACTION), sdk.Unreachable);
});

test("a gateway that fails for a while is waited out", async (t) => {
  let left = 3;
  const { url } = await between(t, async (asked, ask) => (left-- > 0 ? { status: 503 } : ask(asked)));
  const relay = new sdk.Relay({ ...(await newAgent()), url });
  assert.equal((await relay.submit(...ACTION)).duplicate, false);
});
