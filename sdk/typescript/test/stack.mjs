// The running stack as the SDK's tests use it: agents, an operator, and what the relay does.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Relay } from "../dist/index.js";

export const stack = JSON.parse(readFileSync(process.env.RELAYTRACE_DEV_JSON));

export async function call(path, token, body, method = body ? "POST" : "GET") {
  const response = await fetch(stack.base_url + path, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text && JSON.parse(text);
}

/** Options of a relay of an agent of the test's own. */
export async function newAgent(changes = {}) {
  const agentId = `ts-${randomBytes(6).toString("hex")}`;
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  await call("/v1/admin/agents", stack.admin.token, { agent_id: agentId, name: "A test of the SDK" });
  const key = { key_id: `${agentId}-key`, alg: "EdDSA", public_key: publicKey.export({ type: "spki", format: "pem" }) };
  const { response_secret } = await call(`/v1/admin/agents/${agentId}/keys`, stack.admin.token, key);
  return {
    url: stack.base_url,
    agentId,
    keyId: key.key_id,
    privateKey: privateKey.export({ type: "pkcs8", format: "pem" }),
    responseSecret: response_secret,
    ...changes,
  };
}

/** The same, with a bearer key in place of the key that signs. */
export async function newBearerAgent() {
  const { url, agentId } = await newAgent();
  const key = { key_id: `${agentId}-bearer`, alg: "bearer", scopes: ["ask", "execute"] };
  const { token, response_secret } = await call(`/v1/admin/agents/${agentId}/keys`, stack.admin.token, key);
  return { url, agentId, token, responseSecret: response_secret };
}

export async function newRelay(changes) {
  return new Relay(await newAgent(changes));
}

const queue = (agentId, status = "pending") =>
  call(`/v1/hitl/requests?status=${status}&agent_id=${agentId}`, stack.operator.token).then(({ items }) => items);

export const detail = (requestId) => call(`/v1/hitl/requests/${requestId}`, stack.operator.token);

/** The agent's next pending requests, as many as are wanted. */
export async function asked(relay, count = 1) {
  for (;;) {
    const items = await queue(relay.agentId);
    if (items.length >= count) return Promise.all(items.map((item) => detail(item.request_id)));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Decides the agent's next request. */
export async function decide(relay, decision, members = {}) {
  const [request] = await asked(relay);
  return decideOn(request, decision, members);
}

export async function decideOn(request, decision, members = {}) {
  const body = {
    decision,
    action_digest: request.action_digest,
    ...(decision === "reject" && { reason: "not today" }),
    ...members,
  };
  await call(`/v1/hitl/requests/${request.request_id}/decision`, stack.operator.token, body);
  return request;
}

/** What `work` comes to, beside an operator who approves what the agent asks. */
export async function approving(agentId, work) {
  let isOver = false;
  const worker = (async () => {
    while (!isOver) {
      for (const item of await queue(agentId)) await decideOn(await detail(item.request_id), "approve");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  try {
    return await work();
  } finally {
    isOver = true;
    await worker;
  }
}

export const allOf = (relay) => queue(relay.agentId, "all");
