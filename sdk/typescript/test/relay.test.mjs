// The client against the real relay.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import * as sdk from "../dist/index.js";
import { allOf, asked, decide, detail, newAgent, newBearerAgent, newRelay, stack } from "./stack.mjs";

const ACTION = ["refund.create", { customer: "88213", amount: "12.40" }];
const never = () => assert.fail("it ran without an approval");

test("an approval runs once with the approved arguments, and its outcome is on record", async () => {
  const relay = await newRelay();
  const key = randomUUID();
  const ran = [];
  const call = () => relay.ask(...ACTION, { key }, (permit) => ran.push(permit.arguments));
  const [, request] = await Promise.all([call(), decide(relay, "approve")]);
  assert.deepEqual(ran, [ACTION[1]]);
  assert.equal((await detail(request.request_id)).execution, "succeeded");
  await assert.rejects(call(), sdk.AlreadyUsed);
  assert.equal(ran.length, 1);
});

test("what the callback throws is thrown on, and reported as failed", async () => {
  const relay = await newRelay();
  const fault = new Error("no funds");
  const refund = relay.guard(
    "refund.create",
    () => {
      throw fault;
    },
    { title: ({ amount }) => `Refund ${amount}` },
  );
  const [request] = await Promise.all([decide(relay, "approve"), assert.rejects(refund(ACTION[1]), fault)]);
  assert.equal(request.title, "Refund 12.40");
  assert.equal((await detail(request.request_id)).execution, "failed");
});

test("a bearer key asks, uses and reports as a signing key does", async () => {
  const relay = new sdk.Relay(await newBearerAgent());
  const call = relay.ask(...ACTION, {}, (permit) => permit.arguments);
  const [ran, request] = await Promise.all([call, decide(relay, "approve")]);
  assert.deepEqual(ran, ACTION[1]);
  assert.equal((await detail(request.request_id)).execution, "succeeded");
});

test("the stack's own bearer key works from the environment, and for its agent only", async () => {
  const { agent_id, bearer_token, bearer_response_secret } = stack.agent;
  const environment = {
    RELAYTRACE_URL: stack.base_url,
    RELAYTRACE_AGENT_ID: agent_id,
    RELAYTRACE_TOKEN: bearer_token,
    RELAYTRACE_RESPONSE_SECRET: bearer_response_secret,
  };
  Object.assign(process.env, environment);
  const relay = sdk.Relay.fromEnv();
  const elsewhere = sdk.Relay.fromEnv({ agentId: (await newAgent()).agentId });
  for (const name of Object.keys(environment)) delete process.env[name];
  assert.equal((await relay.submit(...ACTION)).status, "pending");
  await assert.rejects(
    elsewhere.submit(...ACTION),
    (error) => error instanceof sdk.Refused && error.problem.code === "forbidden",
  );
});

test("of many that wait for one request each sees the decision as it comes", async () => {
  const relay = await newRelay();
  const request = await relay.submit(...ACTION);
  const waiting = Array.from({ length: 4 }, () => relay.wait(request));
  await decide(relay, "approve");
  const late = new Promise((_, reject) =>
    setTimeout(reject, 25_000, new Error("it waits for the end of its poll")).unref(),
  );
  for (const decision of await Promise.race([Promise.all(waiting), late])) assert.equal(decision.outcome, "approved");
});

test("a run that is told to stop reports nothing: nobody knows how far it came", async () => {
  const relay = await newRelay();
  const controller = new AbortController();
  const reason = new Error("the user left");
  const call = relay.ask(...ACTION, { signal: controller.signal }, () => {
    controller.abort(reason);
    throw reason;
  });
  const [request] = await Promise.all([decide(relay, "approve"), assert.rejects(call, reason)]);
  assert.equal((await detail(request.request_id)).execution, "consumed");
});

test("a generator is refused: its outcome would be reported before it has run", async () => {
  const relay = await newRelay();
  for (const generator of [function* () {}, async function* () {}]) {
    assert.throws(() => relay.guard(...[ACTION[0], generator]), sdk.ConfigurationError);
    await assert.rejects(relay.ask(...ACTION, {}, generator), sdk.ConfigurationError);
  }
  assert.deepEqual(await allOf(relay), []);
});

test("edited arguments are what runs", async () => {
  const relay = await newRelay();
  const edited = { ...ACTION[1], amount: "10.00" };
  const edited_action_digest = await sdk.actionDigest({ type: ACTION[0], arguments: edited });
  const call = relay.ask(...ACTION, { answers: ["approve", "reject", "edit"] }, (permit) => permit);
  const [permit] = await Promise.all([call, decide(relay, "edit", { arguments: edited, edited_action_digest })]);
  assert.deepEqual(permit.arguments, edited);
  assert.equal(permit.edited, true);
});

test("a response is no approval, and carries its value", async () => {
  const relay = await newRelay();
  const call = relay.ask(...ACTION, { answers: ["approve", "reject", "respond"] }, never);
  const refused = assert.rejects(call, (error) => error instanceof sdk.Responded && error.value === "pay by voucher");
  await Promise.all([refused, decide(relay, "respond", { response: "pay by voucher" })]);
});

test("a rejection says who and why, and is delivered once", async () => {
  const relay = await newRelay();
  const key = randomUUID();
  const rejected = () =>
    assert.rejects(
      relay.ask(...ACTION, { key }, never),
      (error) => error instanceof sdk.Rejected && error.reason === "not today" && error.by.id === stack.operator.id,
    );
  const [, request] = await Promise.all([rejected(), decide(relay, "reject")]);
  assert.equal((await detail(request.request_id)).delivery.state, "acknowledged");
  await rejected();
  assert.equal((await allOf(relay)).length, 1);
});

test("a timeout is not a person's no", async () => {
  const relay = await newRelay();
  const respondBy = new Date(Date.now() + 2_000);
  await assert.rejects(relay.ask(...ACTION, { respondBy }, never), sdk.TimedOut);
});

test("who stops waiting gets StillPending, and the same key attaches to the same request", async () => {
  const relay = await newRelay();
  const key = randomUUID();
  await assert.rejects(
    relay.ask(...ACTION, { key, waitSeconds: 1 }, never),
    (error) => error instanceof sdk.StillPending && error.key === key,
  );
  const again = assert.rejects(relay.ask(...ACTION, { key }, never), sdk.Rejected);
  await Promise.all([again, decide(relay, "reject")]);
});

test("an aborted call withdraws its request and throws the reason", async () => {
  const relay = await newRelay();
  const reason = new Error("the user left");
  const controller = new AbortController();
  const call = assert.rejects(relay.ask(...ACTION, { signal: controller.signal }, never), reason);
  const [request] = await asked(relay);
  controller.abort(reason);
  await call;
  assert.equal((await detail(request.request_id)).decision.outcome, "cancelled");
  await assert.rejects(
    relay.wait(await relay.request(request.request_id)).then((decision) => {
      throw new sdk.Cancelled(decision);
    }),
    sdk.Cancelled,
  );
});

test("equal calls of a named run are requests of their own, and found again by the same run", async () => {
  const options = await newAgent({ runId: "night-7" });
  const ids = async (relay) =>
    [await relay.submit(...ACTION), await relay.submit(...ACTION)].map(({ request_id }) => request_id);
  const first = await ids(new sdk.Relay(options));
  assert.notEqual(first[0], first[1]);
  assert.deepEqual(await ids(new sdk.Relay(options)), first);
});

test("decisions are delivered, verify offline, and are not delivered again once acknowledged", async () => {
  const relay = await newRelay();
  const { request_id } = await relay.submit(...ACTION);
  await decide(relay, "approve");
  const controller = new AbortController();
  for await (const decision of relay.decisions({ signal: controller.signal })) {
    assert.equal(decision.request_id, request_id);
    const keys = await relay.receiptKeys();
    assert.equal((await sdk.verifyReceipt(decision, keys)).sub, request_id);
    await assert.rejects(sdk.verifyReceipt({ ...decision, outcome: "rejected" }, keys), sdk.WrongReceipt);
    await assert.rejects(sdk.verifyReceipt(decision, keys, "elsewhere"), sdk.WrongDeployment);
    await assert.rejects(sdk.verifyReceipt(decision, { keys: [] }), sdk.WrongDeployment);
    await relay.acknowledge(decision);
    controller.abort();
  }
  assert.equal((await detail(request_id)).delivery.state, "acknowledged");
});

test("the same key for another question is refused with advice", async () => {
  const relay = await newRelay();
  await relay.submit(...ACTION, { key: "one" });
  await assert.rejects(
    relay.submit(ACTION[0], {}, { key: "one" }),
    (error) => error instanceof sdk.Refused && /new key/.test(error.message),
  );
});

test("what is not said aloud is verified: no secret, no client", async () => {
  const { responseSecret, ...options } = await newAgent();
  assert.throws(() => new sdk.Relay(options), /RELAYTRACE_RESPONSE_SECRET/);
  const relay = new sdk.Relay({ ...options, verify: false });
  assert.equal((await relay.submit(...ACTION)).status, "pending");
});
