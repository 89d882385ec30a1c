// The adapters with the frameworks' own fake models, against the real relay.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import {
  Command,
  interrupt,
  MemorySaver,
  MessagesAnnotation,
  ParentCommand,
  START,
  StateGraph,
} from "@langchain/langgraph";
import { Agent, Runner, RunState } from "@openai/agents";
import { generateText, isStepCount, tool as aiTool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { AIMessage, createAgent, fakeModel, tool as langchainTool } from "langchain";
import { z } from "zod";
import * as ai from "../dist/ai.js";
import * as langchain from "../dist/langchain.js";
import { approvedTool } from "../dist/openai-agents.js";
import { Relay, StillPending } from "../dist/index.js";
import { allOf, decide, detail, newAgent, newRelay } from "./stack.mjs";

const input = { amount: "12.40" };
const schema = z.object({ amount: z.string() });
const noUsage = { requests: 1, inputTokens: 0, outputTokens: 0, totalTokens: 0 };
const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

/** Each framework: runs its fake model, which calls `refund` once, and returns what the model is told of the call. */
const frameworks = {
  async "AI SDK"(relay, ran) {
    const refund = aiTool({ inputSchema: schema, execute: (args) => ran(args) });
    const { tools, toolApproval } = ai.approvals(relay, { refund }, { scope: randomUUID() });
    const model = new MockLanguageModelV4({
      doGenerate: [
        {
          content: [{ type: "tool-call", toolCallId: "call-1", toolName: "refund", input: JSON.stringify(input) }],
          finishReason: { unified: "tool-calls" },
          usage,
          warnings: [],
        },
        { content: [{ type: "text", text: "done" }], finishReason: { unified: "stop" }, usage, warnings: [] },
      ],
    });
    await generateText({ model, prompt: "refund", tools, toolApproval, stopWhen: isStepCount(3) });
    return JSON.stringify(model.doGenerateCalls.at(-1).prompt);
  },
  async "OpenAI Agents"(relay, ran) {
    const told = [];
    const refund = approvedTool(
      relay,
      { name: "refund", description: "Refund", parameters: schema, execute: (args) => ran(args) },
      { scope: randomUUID() },
    );
    const answers = [
      {
        type: "function_call",
        callId: "call-1",
        name: "refund",
        arguments: JSON.stringify(input),
        status: "completed",
      },
      { type: "message", role: "assistant", status: "completed", content: [{ type: "output_text", text: "done" }] },
    ];
    const model = {
      async getResponse(request) {
        told.push(request.input);
        return { usage: noUsage, output: [answers.shift()] };
      },
    };
    await new Runner({ tracingDisabled: true }).run(new Agent({ name: "billing", model, tools: [refund] }), "refund");
    return JSON.stringify(told.at(-1));
  },
  async LangChain(relay, ran) {
    const refund = langchainTool((args) => ran(args), { name: "refund", description: "Refund", schema });
    const model = fakeModel()
      .respondWithTools([{ name: "refund", args: input, id: "call-1" }])
      .respond(new AIMessage("done"));
    const agent = createAgent({
      model,
      tools: [refund],
      middleware: [langchain.approvals(relay, { scope: randomUUID() })],
    });
    const { messages } = await agent.invoke({ messages: [{ role: "user", content: "refund" }] });
    return JSON.stringify(messages.find((message) => message.type === "tool").content);
  },
};

for (const [name, run] of Object.entries(frameworks)) {
  test(`${name}: a rejected call does not run, and the model is told who rejected it and why`, async () => {
    const relay = await newRelay();
    const [told] = await Promise.all([run(relay, () => assert.fail("it ran")), decide(relay, "reject")]);
    assert.match(told, /did not run: a person .*not today/);
    assert.equal((await allOf(relay)).length, 1);
  });

  test(`${name}: an approved call runs once with what was approved`, async () => {
    const relay = await newRelay();
    const ran = [];
    const [told] = await Promise.all([run(relay, (args) => ran.push(args) && "refunded"), decide(relay, "approve")]);
    assert.deepEqual(ran, [input]);
    assert.match(told, /refunded/);
    assert.equal((await allOf(relay)).length, 1);
  });

  test(`${name}: an answer that a tool gets by asking itself is the tool's own fault`, async () => {
    const relay = await newRelay();
    const fault = new StillPending("r", "k");
    const call = run(relay, () => {
      throw fault;
    }).catch((error) => error.message);
    const [told, request] = await Promise.all([call, decide(relay, "approve")]);
    assert.doesNotMatch(told, /a person has not answered/);
    assert.equal((await detail(request.request_id)).execution, "failed");
  });

  test(`${name}: a relay that is down runs nothing, and the model is told`, async () => {
    const relay = await newRelay({ url: "http://127.0.0.1:1", patienceSeconds: 1 });
    assert.match(await run(relay, () => assert.fail("it ran")), /did not run: no valid decision/);
  });
}

test("LangChain: a graph that was interrupted believes the relay, not the value of its resume", async () => {
  const relay = await newRelay();
  const refund = langchainTool(() => assert.fail("it ran"), { name: "refund", description: "Refund", schema });
  const model = fakeModel()
    .respondWithTools([{ name: "refund", args: input, id: "call-1" }])
    .respond(new AIMessage("done"));
  const middleware = [langchain.approvals(relay, { interrupts: true })];
  const agent = createAgent({ model, tools: [refund], middleware, checkpointer: new MemorySaver() });
  const config = { configurable: { thread_id: randomUUID() } };
  const paused = await agent.invoke({ messages: [{ role: "user", content: "refund" }] }, config);
  assert.equal(paused.__interrupt__[0].value.type, "relaytrace");
  const forged = await agent.invoke(new Command({ resume: { approved: true } }), config);
  assert.equal(forged.__interrupt__[0].value.request_id, paused.__interrupt__[0].value.request_id);
  await decide(relay, "reject");
  const { messages } = await agent.invoke(new Command({ resume: true }), config);
  assert.match(messages.find((message) => message.type === "tool").content, /a person .*not today/);
});

test("AI SDK: a run that was interrupted goes on in another process, and believes the relay, not its messages", async () => {
  const options = await newAgent();
  const scope = randomUUID();
  const ran = [];
  const model = new MockLanguageModelV4({
    async doGenerate({ prompt }) {
      const has = prompt.some(({ role }) => role === "tool");
      const call = { type: "tool-call", toolCallId: "call-1", toolName: "refund", input: JSON.stringify(input) };
      const content = [has ? { type: "text", text: "done" } : call];
      return { content, finishReason: { unified: has ? "stop" : "tool-calls" }, usage, warnings: [] };
    },
  });
  const process = (messages) => {
    const refund = aiTool({ inputSchema: schema, execute: (args) => ran.push(args) && "refunded" });
    const guarded = ai.approvals(new Relay(options), { refund }, { scope, interrupts: true });
    return generateText({ model, messages, ...guarded, stopWhen: isStepCount(3) });
  };
  const asked = [{ role: "user", content: "refund" }];
  const paused = await process(asked);
  const { approvalId } = paused.content.find(({ type }) => type === "tool-approval-request");
  const said = { role: "tool", content: [{ type: "tool-approval-response", approvalId, approved: true }] };
  const stored = [...asked, ...JSON.parse(JSON.stringify(paused.response.messages)), said];
  await process(stored);
  assert.deepEqual(ran, []);
  assert.match(JSON.stringify(model.doGenerateCalls.at(-1).prompt), /a person has not answered/);
  await decide(options, "approve");
  await process(stored);
  assert.deepEqual(ran, [input]);
  assert.equal((await allOf(options)).length, 1);
});

test("OpenAI Agents: a run that was interrupted goes on in another process, and believes the relay, not its state", async () => {
  const options = await newAgent();
  const scope = randomUUID();
  const ran = [];
  const told = [];
  const model = {
    async getResponse(request) {
      const results = request.input.filter?.(({ type }) => type === "function_call_result") ?? [];
      told.push(...results.map(({ output }) => JSON.stringify(output)));
      const call = { type: "function_call", callId: "call-1", name: "refund", arguments: JSON.stringify(input) };
      const done = { type: "message", role: "assistant", content: [{ type: "output_text", text: "done" }] };
      return { usage: noUsage, output: [{ ...(results.length > 0 ? done : call), status: "completed" }] };
    },
  };
  const runner = new Runner({ tracingDisabled: true });
  const newBilling = () => {
    const execute = (args) => ran.push(args) && "refunded";
    const tool = { name: "refund", description: "Refund", parameters: schema, execute };
    const refund = approvedTool(new Relay(options), tool, { scope, interrupts: true });
    return new Agent({ name: "billing", model, tools: [refund] });
  };
  const address = options.url;
  Object.assign(options, { url: "http://127.0.0.1:1", patienceSeconds: 0.2 });
  assert.deepEqual((await runner.run(newBilling(), "refund")).interruptions, [], "what was never asked pauses no run");
  assert.match(told.at(-1), /did not run: no valid decision/);
  Object.assign(options, { url: address, patienceSeconds: 30 });
  const stored = (await runner.run(newBilling(), "refund")).state.toString();
  const goOn = async () => {
    const billing = newBilling();
    const state = await RunState.fromString(billing, stored);
    for (const item of state.getInterruptions()) state.approve(item);
    await runner.run(billing, state);
  };
  await goOn();
  assert.deepEqual(ran, []);
  assert.match(told.at(-1), /a person has not answered/);
  await decide(options, "approve");
  await goOn();
  assert.deepEqual(ran, [input]);
  assert.equal((await allOf(options)).length, 1);
});

const refundModel = () =>
  fakeModel()
    .respondWithTools([{ name: "refund", args: input, id: "call-1" }])
    .respond(new AIMessage("done"));

for (const [when, options, forged] of [
  ["that was approved in time", {}, 0],
  ["after an interrupt for its approval", { interrupts: true }, 0],
  ["after forged resumes", { interrupts: true }, 2],
]) {
  test(`LangChain: a tool that interrupts itself goes on under its approval, ${when}`, async () => {
    const relay = await newRelay();
    const execute = async (args) => `refunded ${args.amount} from ${interrupt("From which account?")}`;
    const refund = langchainTool(execute, { name: "refund", description: "Refund", schema });
    const middleware = [langchain.approvals(relay, options)];
    const agent = createAgent({ model: refundModel(), tools: [refund], middleware, checkpointer: new MemorySaver() });
    const config = { configurable: { thread_id: randomUUID() } };
    const first = agent.invoke({ messages: [{ role: "user", content: "refund" }] }, config);
    if (options.interrupts) await first;
    for (let n = 0; n < forged; n += 1) await agent.invoke(new Command({ resume: "forged" }), config);
    const request = await decide(relay, "approve");
    const paused = options.interrupts ? await agent.invoke(new Command({ resume: "go on" }), config) : await first;
    assert.equal(paused.__interrupt__[0].value, "From which account?");
    assert.equal((await detail(request.request_id)).execution, "consumed");
    const { messages } = await agent.invoke(new Command({ resume: "B" }), config);
    assert.equal(messages.find((message) => message.type === "tool").content, "refunded 12.40 from B");
    assert.equal((await detail(request.request_id)).execution, "succeeded");
  });
}

test("LangChain: a tool that hands over has succeeded", async () => {
  const relay = await newRelay();
  const execute = () => {
    throw new ParentCommand(new Command({ graph: Command.PARENT, goto: "other" }));
  };
  const refund = langchainTool(execute, { name: "refund", description: "Refund", schema });
  const middleware = [langchain.approvals(relay, { scope: randomUUID() })];
  const inner = createAgent({ model: refundModel(), tools: [refund], middleware });
  const outer = new StateGraph(MessagesAnnotation)
    .addNode("inner", inner.graph, { ends: ["other"] })
    .addNode("other", () => ({ messages: [new AIMessage("taken over")] }))
    .addEdge(START, "inner")
    .compile();
  const call = outer.invoke({ messages: [{ role: "user", content: "refund" }] });
  const [{ messages }, request] = await Promise.all([call, decide(relay, "approve")]);
  assert.equal(messages.at(-1).content, "taken over");
  assert.equal((await detail(request.request_id)).execution, "succeeded");
});
