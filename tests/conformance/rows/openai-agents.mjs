// The OpenAI Agents SDK for Node, its run state serialised into a file.

import { readFileSync, writeFileSync } from "node:fs";
import { Agent, Runner, RunState, tool } from "@openai/agents";
import { z } from "zod";
import { approvedTool } from "../../../sdk/typescript/dist/openai-agents.js";
import { answerTo, doesNotSay, file, hasNoDeadline, isAnswered, newRelay, plan, refund, waitSeconds } from "./plan.mjs";

const usage = { requests: 1, inputTokens: 0, outputTokens: 0, totalTokens: 0 };
const description = "Refund an amount";
const options = { name: "refund", description, parameters: z.object({ amount: z.string() }), execute: refund };

/** A model that calls a tool until it has results, in any process, and keeps what it was told. */
class Scripted {
  told = [];

  constructor(name, ...inputs) {
    Object.assign(this, { name, inputs });
  }

  async getResponse({ input }) {
    const results = Array.isArray(input) ? input.filter(({ type }) => type === "function_call_result") : [];
    results.sort((a, b) => a.callId.localeCompare(b.callId));
    this.told = results.map(({ output }) => output?.text ?? String(output));
    const text = this.told.join("; ") || "done";
    const said = { type: "message", role: "assistant", status: "completed", content: [{ type: "output_text", text }] };
    const calls = this.inputs.map((args, n) => ({
      type: "function_call",
      callId: `call-${n}`,
      name: this.name,
      arguments: JSON.stringify(args),
      status: "completed",
    }));
    return { usage, output: results.length > 0 ? [said] : calls };
  }
}

async function play(guarded, settle) {
  let model = new Scripted("refund", ...plan.calls.map((amount) => ({ amount })));
  let agent = new Agent({ name: "billing", model, tools: [guarded] });
  if (plan.nested) {
    const billing = agent.asTool({ toolName: "billing", toolDescription: "Bills." });
    model = new Scripted("billing", { input: "refund" });
    agent = new Agent({ name: "a", model, tools: [billing] });
  }
  const runner = new Runner({ tracingDisabled: true });
  let state = "refund";
  if (plan.resume) {
    state = await RunState.fromString(agent, readFileSync(file("state.json"), "utf8"));
    settle(state);
  }
  let done = await runner.run(agent, state);
  if (done.interruptions.length > 0) {
    writeFileSync(file("state.json"), done.state.toString());
    if (isAnswered && !plan.resume) {
      settle(done.state);
      done = await runner.run(agent, done.state);
    }
  }
  return [done.interruptions.length > 0, model.told];
}

export async function own() {
  hasNoDeadline("`needsApproval` and `RunState` take no time");
  doesNotSay("edit", "No edits: `RunState.approve` takes no arguments, and openai-agents-js#1097 was declined.");
  doesNotSay("respond", "No answers in place of a call: `RunState` has `approve` and `reject` only; a text goes to the model as a rejection's message.");
  return play(tool({ ...options, needsApproval: true }), (state) => {
    for (const item of state.getInterruptions()) {
      const { decision, reason } = answerTo(JSON.parse(item.arguments).amount);
      if (decision === "approve") state.approve(item);
      else state.reject(item, { message: reason });
    }
  });
}

export async function relaytrace() {
  const asking = { scope: plan.run, interrupts: plan.pause, ask: () => ({ waitSeconds }) };
  return play(approvedTool(await newRelay(), options, asking), (state) => {
    for (const item of state.getInterruptions()) state.approve(item);
  });
}
