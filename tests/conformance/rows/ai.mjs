// The AI SDK, its messages in a file. By itself with the secret that signs its requests for approval.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { generateText, isStepCount, tool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { z } from "zod";
import { approvals } from "../../../sdk/typescript/dist/ai.js";
import { answerTo, doesNotSay, file, hasNoDeadline, isAnswered, newRelay, plan, refund, waitSeconds } from "./plan.mjs";

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};
const amounts = z.object({ amount: z.string() });
const resultsOf = (messages) =>
  messages.flatMap(({ role, content }) =>
    role === "tool" ? content.filter(({ type }) => type === "tool-result") : [],
  );

/** A model that calls a tool until it has results, in any process. */
const calling = (toolName, ...inputs) =>
  new MockLanguageModelV4({
    async doGenerate({ prompt }) {
      const calls = inputs.map((input, n) => ({
        type: "tool-call",
        toolCallId: `call-${n}`,
        toolName,
        input: JSON.stringify(input),
      }));
      const has = resultsOf(prompt).length > 0;
      return {
        content: has ? [{ type: "text", text: "done" }] : calls,
        finishReason: { unified: has ? "stop" : "tool-calls" },
        usage,
        warnings: [],
      };
    },
  });

const refundTool = () => tool({ inputSchema: amounts, execute: refund });
const askingModel = () => calling("refund", ...plan.calls.map((amount) => ({ amount })));
const stopWhen = isStepCount(3);

/** Of the messages that the model sees last: the results of its calls, by call. */
function toldTo(model) {
  const results = resultsOf(model.doGenerateCalls.at(-1)?.prompt ?? []);
  return results
    .sort((a, b) => a.toolCallId.localeCompare(b.toolCallId))
    .map(({ output }) => String(output.value ?? output.reason ?? JSON.stringify(output)));
}

/** A run, and one more with the answers to what it stopped for. */
async function play({ tools, settle, ...settings }) {
  const kept = file("messages.json");
  const model = askingModel();
  let messages = [{ role: "user", content: "refund" }];
  const turn = async () => {
    const done = await generateText({ model, messages, tools, stopWhen, ...settings });
    messages = JSON.parse(JSON.stringify([...messages, ...done.response.messages]));
    return done.content.filter(({ type }) => type === "tool-approval-request").filter(({ isAutomatic }) => !isAutomatic);
  };
  const settled = () => {
    const parts = messages.flatMap(({ role, content }) => (role === "assistant" ? content : []));
    const content = parts
      .filter(({ type }) => type === "tool-approval-request")
      .map(({ approvalId, toolCallId }) => {
        const { input } = parts.find((part) => part.type === "tool-call" && part.toolCallId === toolCallId);
        return { type: "tool-approval-response", approvalId, ...settle(input.amount) };
      });
    messages = [...messages, { role: "tool", content }];
  };
  if (plan.resume && existsSync(kept)) {
    messages = JSON.parse(readFileSync(kept, "utf8"));
    settled();
  }
  let waiting = await turn();
  if (waiting.length > 0 && !plan.resume) {
    writeFileSync(kept, JSON.stringify(messages));
    if (isAnswered) {
      settled();
      waiting = await turn();
    }
  }
  return [waiting.length > 0, toldTo(model)];
}

export async function own() {
  hasNoDeadline("`toolApproval` takes no time");
  doesNotSay("edit", "No edits: a `tool-approval-response` has `approved` and `reason`, and no arguments.");
  doesNotSay("respond", "No answers in place of a call: a `tool-approval-response` has `approved` and `reason`, and no result.");
  const settings = { toolApproval: { refund: "user-approval" }, experimental_toolApprovalSecret: "only the server knows it" };
  const settle = (amount) => {
    const { decision, reason } = answerTo(amount);
    return { approved: decision === "approve", reason };
  };
  if (!plan.nested) return play({ tools: { refund: refundTool() }, settle, ...settings });
  // A pause would end in the tool that runs the inner agent: there the policy itself asks the person.
  const toolApproval = ({ toolCall }) => (settle(toolCall.input.amount).approved ? "approved" : "denied");
  return nested({ refund: refundTool() }, { toolApproval });
}

export async function relaytrace() {
  const options = { scope: plan.run, interrupts: plan.pause, ask: () => ({ waitSeconds }) };
  const guarded = approvals(await newRelay(), { refund: refundTool() }, options);
  if (plan.nested) return nested(guarded.tools, { toolApproval: guarded.toolApproval });
  return play({ ...guarded, settle: () => ({ approved: true }) });
}

/** An agent as another one's tool: its text is the tool's result. */
async function nested(tools, settings) {
  const inner = askingModel();
  const billing = tool({
    inputSchema: z.object({ task: z.string() }),
    async execute({ task }) {
      const { text, content } = await generateText({ model: inner, prompt: task, tools, stopWhen, ...settings });
      const isPaused = content.some(({ type, isAutomatic }) => type === "tool-approval-request" && !isAutomatic);
      return isPaused ? "the inner agent waits for an approval" : text && toldTo(inner).join("; ");
    },
  });
  const model = calling("billing", { task: "refund" });
  await generateText({ model, prompt: "refund", tools: { billing }, stopWhen });
  return [false, toldTo(model)];
}
