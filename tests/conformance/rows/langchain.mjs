// LangChain for Node, its thread in LangGraph's own saver, which a file keeps.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { deserialize, serialize } from "node:v8";
import { AIMessage, ToolMessage } from "@langchain/core/messages";
import { FakeListChatModel } from "@langchain/core/utils/testing";
import { Command, MemorySaver } from "@langchain/langgraph";
import { createAgent, humanInTheLoopMiddleware, tool } from "langchain";
import { z } from "zod";
import { approvals } from "../../../sdk/typescript/dist/langchain.js";
import { answerTo, doesNotSay, file, hasNoDeadline, isAnswered, newRelay, plan, refund, waitSeconds } from "./plan.mjs";

const ASK = { messages: [{ role: "user", content: "refund" }] };

/** LangGraph's saver, written out whenever it changes. */
class FileSaver extends MemorySaver {
  constructor(path) {
    super();
    this.path = path;
    if (existsSync(path)) Object.assign(this, deserialize(readFileSync(path)));
  }

  async put(...parts) {
    const config = await super.put(...parts);
    this.#keep();
    return config;
  }

  async putWrites(...parts) {
    await super.putWrites(...parts);
    this.#keep();
  }

  #keep() {
    const { storage, writes } = this;
    writeFileSync(this.path, serialize({ storage, writes }));
  }
}

/** LangChain's fake model; calls a tool until it has results, in any process. */
class Scripted extends FakeListChatModel {
  constructor(name, ...inputs) {
    super({ responses: ["done"] });
    this.toolCalls = inputs.map((args, n) => ({ name, args, id: `call-${n}`, type: "tool_call" }));
  }

  bindTools() {
    return this;
  }

  async _generate(messages) {
    const has = messages.some((message) => ToolMessage.isInstance(message));
    const message = has ? new AIMessage("done") : new AIMessage({ content: "", tool_calls: this.toolCalls });
    return { generations: [{ message, text: message.text }] };
  }
}

/** The results in the order of their calls. */
const resultsOf = ({ messages }) =>
  messages
    .filter((message) => ToolMessage.isInstance(message))
    .sort((a, b) => a.tool_call_id.localeCompare(b.tool_call_id))
    .map(({ text }) => text);

async function play(middleware, settle) {
  const checkpointer = new FileSaver(file("checkpoints"));
  const schema = z.object({ amount: z.string() });
  const guarded = tool(refund, { name: "refund", description: "Refund an amount", schema });
  const model = new Scripted("refund", ...plan.calls.map((amount) => ({ amount })));
  let agent = createAgent({ model, tools: [guarded], middleware: [middleware], checkpointer });
  if (plan.nested) {
    const inner = createAgent({ model, tools: [guarded], middleware: [middleware] });
    const billing = tool(async () => resultsOf(await inner.invoke(ASK)).join("; "), {
      name: "billing",
      description: "Bill",
      schema: z.object({ task: z.string() }),
    });
    agent = createAgent({ model: new Scripted("billing", { task: "refund" }), tools: [billing], checkpointer });
  }
  const config = { configurable: { thread_id: plan.run } };
  const interrupts = (state) => state.tasks.flatMap((task) => task.interrupts);
  if (!plan.resume) await agent.invoke(ASK, config);
  let state = await agent.graph.getState(config);
  if (interrupts(state).length > 0 && (plan.resume || isAnswered))
    await agent.invoke(new Command({ resume: settle(interrupts(state)) }), config);
  // After a crash nothing is asked any more, and something is left to do.
  else if (plan.resume && state.next.length > 0) await agent.invoke(null, config);
  state = await agent.graph.getState(config);
  return [interrupts(state).length > 0, resultsOf(state.values)];
}

export async function own() {
  hasNoDeadline("`humanInTheLoopMiddleware` and `interrupt` take no time");
  doesNotSay("respond", "No answers in place of a call: the decisions are `approve`, `edit` and `reject` (`DecisionType`).");
  const interruptOn = { refund: { allowedDecisions: ["approve", "edit", "reject"] } };
  return play(humanInTheLoopMiddleware({ interruptOn }), (asked) => {
    const requests = asked.flatMap(({ value }) => value.actionRequests);
    return { decisions: requests.map(({ name, args }) => decisionOn(name, answerTo(args.amount))) };
  });
}

function decisionOn(name, { decision, reason, amount }) {
  if (decision === "edit") return { type: "edit", editedAction: { name, args: { amount } } };
  return decision === "reject" ? { type: "reject", message: reason } : { type: "approve" };
}

export async function relaytrace() {
  const ask = ({ name }) => name === "refund" && { waitSeconds };
  const middleware = approvals(await newRelay(), { ask, interrupts: plan.pause, scope: plan.run });
  // A value that says yes, whatever was decided.
  return play(middleware, () => ({ decisions: [{ type: "approve" }] }));
}
