// The examples of the README, run as they are printed: each as a module of this package, whose own name leads to dist/.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { MemorySaver } from "@langchain/langgraph";
import { Agent, Runner } from "@openai/agents";
import { tool as aiTool, generateText, isStepCount } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { AIMessage, createAgent, fakeModel, tool as langchainTool } from "langchain";
import { z } from "zod";
import { Relay } from "../dist/index.js";
import { approving, detail, newAgent } from "./stack.mjs";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const parameters = z.object({ amount: z.string() });
const input = { amount: "12.40" };

/** The example below a heading. */
function exampleOf(heading) {
  const [section] = readme.split(`# ${heading}\n`)[1].split(/^#+ /m);
  return /^```js\n(.*?)^```/ms.exec(section)[1];
}

/** Runs code with what it takes for known, beside an operator who approves. What the example names `result` is returned. */
async function run(code, known, result = "undefined") {
  const { url, agentId, keyId, privateKey, responseSecret } = await newAgent();
  const environment = {
    RELAYTRACE_URL: url,
    RELAYTRACE_AGENT_ID: agentId,
    RELAYTRACE_KEY_ID: keyId,
    RELAYTRACE_PRIVATE_KEY: privateKey,
    RELAYTRACE_RESPONSE_SECRET: responseSecret,
  };
  const file = new URL(`.readme-${randomUUID()}.mjs`, import.meta.url);
  Object.assign(globalThis, known);
  Object.assign(process.env, environment);
  try {
    writeFileSync(file, `${code}\nexport const result = ${result};\n`);
    return await approving(agentId, async () => (await import(file)).result);
  } finally {
    rmSync(file, { force: true });
    for (const name of Object.keys(environment)) delete process.env[name];
    for (const name of Object.keys(known)) delete globalThis[name];
  }
}

test("the first decision", async () => {
  const told = [];
  await run(exampleOf("First decision"), { console: { ...console, log: (...text) => told.push(text) } });
  assert.deepEqual(told, [["refunding", { customer: "88213", amount: "12.40" }]]);
});

test("a function", async () => {
  const sent = [];
  const code = `${exampleOf("A function")}\nawait send({ to: "a@example.com", body: "hello" });`;
  const relay = new Relay(await newAgent());
  await approving(relay.agentId, () => run(code, { relay, deliver: (...mail) => sent.push(mail) }));
  assert.deepEqual(sent, [["a@example.com", "hello"]]);
});

test("the AI SDK", async () => {
  const ran = [];
  const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } };
  const call = { type: "tool-call", toolCallId: "call-1", toolName: "refund", input: JSON.stringify(input) };
  const model = new MockLanguageModelV4({
    doGenerate: [
      { content: [call], finishReason: { unified: "tool-calls" }, usage, warnings: [] },
      { content: [{ type: "text", text: "done" }], finishReason: { unified: "stop" }, usage, warnings: [] },
    ],
  });
  await run(exampleOf("AI SDK"), {
    refund: aiTool({ inputSchema: parameters, execute: (args) => ran.push(args) }),
    chatId: randomUUID(),
    generateText: (options) => generateText({ ...options, stopWhen: isStepCount(3) }),
    model,
    prompt: "refund",
  });
  assert.deepEqual(ran, [input]);
});

test("OpenAI Agents", async () => {
  const ran = [];
  const usage = { requests: 1, inputTokens: 0, outputTokens: 0, totalTokens: 0 };
  const call = { type: "function_call", callId: "call-1", name: "refund", arguments: JSON.stringify(input) };
  const said = { type: "message", role: "assistant", content: [{ type: "output_text", text: "done" }] };
  const outputs = [call, said].map((output) => ({ ...output, status: "completed" }));
  const model = { getResponse: async () => ({ usage, output: [outputs.shift()] }) };
  const code = `${exampleOf("OpenAI Agents")}\nawait runner.run(agent, "refund");`;
  await run(code, {
    Agent: class extends Agent {
      constructor(options) {
        super({ ...options, model });
      }
    },
    runner: new Runner({ tracingDisabled: true }),
    ...{ description: "Refund", parameters, sessionId: randomUUID(), execute: (args) => ran.push(args) },
  });
  assert.deepEqual(ran, [input]);
});

test("LangChain", async () => {
  const ran = [];
  await run(exampleOf("LangChain"), {
    model: fakeModel()
      .respondWithTools([{ name: "refund", args: input, id: "call-1" }])
      .respond(new AIMessage("done")),
    tools: [
      langchainTool((args) => ran.push(args) && "refunded", { name: "refund", description: "-", schema: parameters }),
    ],
    ...{ createAgent, checkpointer: new MemorySaver(), messages: [{ role: "user", content: "refund" }] },
    thread_id: randomUUID(),
  });
  assert.deepEqual(ran, [input]);
});

test("the guide's callback and guard", async () => {
  const told = [];
  const code = `
    import { Relay, Rejected, TimedOut } from "@relaytrace/sdk";
    const relay = Relay.fromEnv();
    await relay.ask("refund.create", { amount: "12.40" }, { title: "Refund 12.40 EUR", priority: "P2" }, async (permit) => {
      told.push(permit.decision.request_id);
    });
    const send = relay.guard("mail.send", async ({ to }) => told.push(to), { title: ({ to }) => \`Mail \${to}\` });
    await send({ to: "a@example.com" });`;
  await run(code, { told });
  assert.equal((await detail(told[0])).execution, "succeeded");
  assert.equal(told[1], "a@example.com");
});
