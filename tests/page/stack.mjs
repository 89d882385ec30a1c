// The running stack as its clients see it: tokens, agents that ask, operators who answer.

import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const description = process.env.RELAYTRACE_DEV_JSON ?? ".local/dev.json";
export const stack = JSON.parse(readFileSync(description));
const secrets = JSON.parse(readFileSync(join(dirname(description), "secrets.json")));

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const seconds = () => Math.floor(Date.now() / 1000);
const known = JSON.parse(Buffer.from(stack.operator.token.split(".")[1], "base64url"));

function signed(kid, claims, key) {
  const text = `${part({ alg: "EdDSA", typ: "JWT", kid })}.${part(claims)}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString("base64url")}`;
}

/** A token of the stack's own issuer; `changes` are claims, `life` is in seconds. */
export function personToken(changes = {}, life = 3600) {
  const claims = { ...known, iat: seconds(), exp: seconds() + life, ...changes };
  return signed("development", claims, createPrivateKey(secrets.issuer_key));
}

export async function call(path, { token, method, body, headers } = {}) {
  const response = await fetch(stack.base_url + path, {
    method: method ?? (body ? "POST" : "GET"),
    headers: { ...(token && { authorization: `Bearer ${token}` }), ...(body && { "content-type": "application/json" }), ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: text.startsWith("{") ? JSON.parse(text) : null };
}

async function good(path, options) {
  const answer = await call(path, options);
  if (answer.status >= 300) throw new Error(`${path}: ${answer.status} ${answer.text}`);
  return answer.json;
}

/** A registered agent, of the test's own: views filtered by its id see nothing of other tests. `token`: its tenant's administrator. */
export async function newAgent(agentId = `page-${randomBytes(5).toString("hex")}`, token = stack.admin.token) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  await good("/v1/admin/agents", { token, body: { agent_id: agentId, name: "A page test's agent" } });
  const key = { key_id: `${agentId}-key`, alg: "EdDSA", public_key: publicKey.export({ type: "spki", format: "pem" }) };
  await good(`/v1/admin/agents/${agentId}/keys`, { token, body: key });
  const agentToken = () => signed(key.key_id, { iss: agentId, sub: agentId, aud: "relaytrace", iat: seconds(), exp: seconds() + 600 }, privateKey);
  let number = 0;
  return {
    agentId, keyId: key.key_id,
    /** Asks; what is not given is an ordinary refund. Returns the submission's answer. */
    ask(changes = {}) {
      number += 1;
      return good("/v1/hitl/requests", { token: agentToken(), body: {
        envelope_version: "1", agent_id: agentId, client_request_key: `key-${number}`, priority: "P2", title: `Refund number ${number}`,
        action: { type: "refund.create", arguments: { customer: "88213", amount: `${number}.00`, currency: "EUR" } }, ...changes,
      } });
    },
    poll: (wait = 0) => good(`/v1/agents/${agentId}/decisions/poll?wait_seconds=${wait}`, { token: agentToken() }),
    /** Uses the permit of an approval, for the action that was approved. */
    consume: (id, action_digest) => good(`/v1/agents/${agentId}/requests/${id}/consume`,
      { token: agentToken(), body: { consume_key: randomBytes(16).toString("hex"), action_digest } }),
    /** Reports what became of its use; `more`: note, evidence_sha256. */
    report: (id, state, more = {}) => good(`/v1/agents/${agentId}/requests/${id}/outcome`, { token: agentToken(), body: { state, ...more } }),
    acknowledge: (decision, result = "accepted", error = undefined) => good(`/v1/agents/${agentId}/decisions/${decision.request_id}/ack`,
      { token: agentToken(), body: { delivery_id: decision.delivery_id, result, ...(error && { error }) } }),
    cancel: (id) => good(`/v1/agents/${agentId}/requests/${id}/cancel`, { token: agentToken(), body: {} }),
  };
}

export const detail = (id) => good(`/v1/hitl/requests/${id}`, { token: stack.operator.token });
export const decide = (id, decision, reason, token = stack.operators[1].token) =>
  answer(id, { decision, reason }, token);

/** Any answer, its body as it is sent. */
export const answer = (id, body, token = stack.operators[1].token) => good(`/v1/hitl/requests/${id}/decision`, { token, body });

/** A call of a person: `path` below /v1/hitl/. */
export const ask = (person, method, path, body) => good(`/v1/hitl/${path}`, { token: person.token, method, body });

/** From now on so many approvals decide what an agent asks as P2. */
export const needApprovals = (agent, approvals) => good("/v1/admin/timeout-policies",
  { token: stack.admin.token, method: "PUT", body: { agent_id: agent.agentId, priority: "P2", respond_within_seconds: 600, approvals } });

/** Adds a rule for an agent to those that stand: other tests have theirs in the same document. */
export async function addRule(agent, asked) {
  const path = "/v1/admin/rules";
  for (;;) {
    const { status, json } = await call(path, { token: stack.admin.token });
    const [version, rules] = status === 404 ? [0, []] : [json.version, json.rules];
    const rule = { name: `${agent.agentId}-${rules.length + 1}`, mode: "enforce", match: { agents: [agent.agentId] }, then: { ask: asked } };
    const made = await call(path, { token: stack.admin.token, method: "PUT", headers: { "if-match": `"${version}"` }, body: { rules: [...rules, rule], note: "A page's test" } });
    if (made.status < 300) return { name: rule.name, version: made.json.version };
    if (made.status !== 412) throw new Error(`${path}: ${made.status} ${made.text}`);
  }
}

/** What no route does: a statement sent to the stack's database, its parameters as `%s`. */
export function sql(statement, ...parameters) {
  const code = "import psycopg, sys\nwith psycopg.connect(sys.argv[1]) as c: c.execute(sys.argv[2], sys.argv[3:])";
  execFileSync(".local/tools/bin/python", ["-c", code, stack.database_url, statement, ...parameters]);
}

/** Several requests, one after the other, so that they are listed in this order. */
export async function askAll(agent, list) {
  const asked = [];
  for (const changes of list) asked.push(await agent.ask(changes));
  return asked;
}
