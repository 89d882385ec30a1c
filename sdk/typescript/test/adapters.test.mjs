// The adapters with the frameworks' own fake models, against the real relay.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { AIMessage, fakeModel } from "langchain";
import { Command, MemorySaver } from "@langchain/langgraph";
import { Agent, Runner } from "@openai/agents";
import { generateText, isStepCount, tool as aiTool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { createAgent, tool as langchainTool } from "langchain";
import { z } from "zod";
import * as ai from "../dist/ai.js";
import * as langchain from "../dist/langchain.js";
import { approvedTool } from "../dist/openai-agents.js";
import { allOf, decide, newRelay } from "./stack.mjs";

const input = { amount: "12.40" };
const schema = z.object({ amount: z.string() });
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
    const empty = { requests: 1, inputTokens: 0, outputTokens: 0, totalTokens: 0 };
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
        return { usage: empty, output: [answers.shift()] };
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
