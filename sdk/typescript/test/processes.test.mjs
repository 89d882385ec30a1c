// Agents that are killed, permits that expire, calls in parallel: what another process finds under the same key, and what
// the record says.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import * as sdk from "../dist/index.js";
import { allOf, approving, asked, call, decide, decideOn, detail, newAgent, stack } from "./stack.mjs";

const ACTION = ["refund.create", { amount: "12.40" }];
// Asks under the key "k", says that it has begun to run, and never ends.
const PROGRAM = `
import { Relay } from "${new URL("../dist/index.js", import.meta.url)}";
await new Relay(JSON.parse(process.env.OPTIONS)).ask("refund.create", { amount: "12.40" }, { key: "k" }, () => {
  console.log("runs");
  return new Promise((resolve) => setTimeout(resolve, 3_600_000));
});
`;

function start(t, options) {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", PROGRAM], {
    env: { ...process.env, OPTIONS: JSON.stringify(options) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  return child;
}

async function kill(child) {
  child.kill("SIGKILL");
  await once(child, "exit");
}

test("killed while it waits: another process goes on with the same request", async (t) => {
  const options = await newAgent();
  const child = start(t, options);
  const [request] = await asked(options);
  await kill(child);
  await decideOn(request, "approve");
  const ran = await new sdk.Relay(options).ask(...ACTION, { key: "k" }, (permit) => permit.decision.request_id);
  assert.equal(ran, request.request_id);
  assert.equal((await detail(ran)).execution, "succeeded");
});

test("killed as it runs: it is not run again, and the record says no end", async (t) => {
  const options = await newAgent();
  const child = start(t, options);
  const request = await decide(options, "approve");
  await once(child.stdout, "data");
  await kill(child);
  await assert.rejects(
    new sdk.Relay(options).ask(...ACTION, { key: "k" }, () => assert.fail("it ran twice")),
    sdk.AlreadyUsed,
  );
  assert.equal((await detail(request.request_id)).execution, "consumed");
});

test("an approval that was not used in time is asked for anew, and then used once", async () => {
  const options = await newAgent();
  const relay = new sdk.Relay(options);
  const question = { key: "k", permitSeconds: 10 };
  const first = await relay.submit(...ACTION, question);
  await decide(options, "approve");
  while ((await detail(first.request_id)).execution !== "unused") {
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  const call = () => relay.ask(...ACTION, question, (permit) => permit.decision.client_request_key);
  assert.equal(await approving(options.agentId, call), "k:2");
  await assert.rejects(call(), sdk.AlreadyUsed);
});

test("of parallel calls each has its own answer", async () => {
  const options = await newAgent();
  const relay = new sdk.Relay(options);
  const calls = ["1", "2", "3"].map((amount) =>
    relay.ask(ACTION[0], { amount }, {}, (permit) => permit.arguments.amount),
  );
  const settled = Promise.allSettled(calls);
  for (const request of await asked(options, 3)) {
    await decideOn(request, request.action.arguments.amount === "2" ? "reject" : "approve");
  }
  const [one, two, three] = await settled;
  assert.deepEqual([one.value, three.value], ["1", "3"]);
  assert.equal(two.reason.constructor, sdk.Rejected);
  const executions = (await allOf(options)).map(({ execution }) => execution);
  assert.deepEqual(executions.sort(), ["none", "succeeded", "succeeded"]);
});

/** Freezes what the agent asks; returns how to end it. */
async function freeze({ agentId }, mode) {
  const path = `/v1/admin/freezes/${agentId}-${mode}`;
  const until = new Date(Date.now() + 600_000).toISOString();
  await call(path, stack.admin.token, { agent_id: agentId, mode, until, reason: "The key was stolen" }, "PUT");
  return () => call(path, stack.admin.token, undefined, "DELETE");
}

test("a hold lets the approval stand, a stop revokes it for good", async () => {
  for (const mode of ["hold", "stop"]) {
    const options = await newAgent({ patienceSeconds: 2 });
    const relay = new sdk.Relay(options);
    const run = () => relay.ask(...ACTION, { key: "k" }, (permit) => permit.arguments);
    await relay.submit(...ACTION, { key: "k" });
    await decide(options, "approve");
    const end = await freeze(options, mode);
    await assert.rejects(run(), mode === "hold" ? sdk.Frozen : sdk.PermitRevoked);
    await end();
    if (mode === "hold") assert.deepEqual(await run(), ACTION[1]);
    else await assert.rejects(run(), sdk.PermitRevoked);
  }
});
