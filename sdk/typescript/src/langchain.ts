/** For LangChain (npm `langchain`, version 1): a middleware, so that a person approves tool calls. */

import { ToolMessage } from "@langchain/core/messages";
import { interrupt, isGraphBubbleUp, isParentCommand } from "@langchain/langgraph";
import { createMiddleware } from "langchain";
import { Calls, MAX_HELD } from "./adapter.js";
import { Responded, textForModel } from "./errors.js";
import type { JsonObject } from "./json.js";
import type { Question } from "./model.js";
import type { AskOptions, Relay } from "./relay.js";

const SCRATCHPAD = "__pregel_scratchpad";

/** What LangGraph keeps of a task: the values of its resumes, and the number of the last interrupt. */
interface Scratchpad {
  resume: unknown[];
  nullResume: unknown;
  interruptCounter: number;
}

export interface ApprovalOptions {
  /** Options of a call's question, or false for a tool that needs nobody. Every tool is asked about by default. */
  ask?: (call: { name: string; args: JsonObject }) => Omit<AskOptions, "key" | "parse"> | false;
  /** Names the run where the graph has no `thread_id`. */
  scope?: string;
  /**
   * Interrupt the graph instead of waiting in this process; needs a checkpointer. The value of the resume counts for
   * nothing: on resume the relay is asked again under the same key.
   */
  interrupts?: boolean;
}

/**
 * Each tool call asks, waits, uses the approval, runs with the approved arguments, edited or not, and reports. A tool that
 * interrupts the graph itself goes on under its approval when the thread is resumed in the same process.
 */
export function approvals(relay: Relay, { ask = () => ({}), scope, interrupts = false }: ApprovalOptions = {}) {
  const calls = new Calls(relay);
  /** Of each request whose tool has begun: how many values of resumes came before. */
  const own = new Map<string, number>();
  /**
   * LangGraph hands the values of its resumes to a call's interrupts in their order. Those that answered this
   * middleware's interrupts must not answer the tool's own: they are all that came before the tool first ran.
   */
  const skipOwn = (configurable: Record<string, unknown> | undefined, requestId: string) => {
    const pad = configurable?.[SCRATCHPAD] as Scratchpad | undefined;
    if (!pad) return;
    const count = own.get(requestId) ?? pad.resume.length + (pad.nullResume === undefined ? 0 : 1);
    own.set(requestId, count);
    const [oldest] = own.keys();
    if (own.size > MAX_HELD && oldest !== undefined) own.delete(oldest);
    while (pad.interruptCounter + 1 < count) interrupt(null);
  };
  return createMiddleware({
    name: "RelayTraceApprovals",
    wrapToolCall: async (request, handler) => {
      const { toolCall, runtime } = request;
      const { id, name } = toolCall;
      const args = toolCall.args as JsonObject;
      const options = ask({ name, args });
      if (!options) return handler(request);
      return calls.run({
        name,
        args,
        scope: runtime.configurable?.thread_id ?? scope,
        callId: id,
        options: { signal: runtime.signal, ...options },
        ...(interrupts && { before: (question: Question) => interruptWhilePending(relay, name, args, question) }),
        run: async (permit, hold) => {
          try {
            skipOwn(runtime.configurable, permit.decision.request_id);
            const result = await handler({
              ...request,
              toolCall: { ...toolCall, args: permit.arguments as JsonObject },
            });
            if (result instanceof ToolMessage && result.status === "error") permit.fail(result.text);
            return result;
          } catch (error) {
            // What LangGraph throws is not always a failure: a handoff ends a run well, an interrupt does not end it.
            if (isParentCommand(error)) permit.succeed("handed over to another agent");
            else if (isGraphBubbleUp(error)) hold();
            throw error;
          }
        },
        refuse: (error) => {
          const status = error instanceof Responded ? "success" : "error";
          return new ToolMessage({ content: textForModel(error), tool_call_id: id ?? "", name, status });
        },
      });
    },
  });
}

async function interruptWhilePending(relay: Relay, name: string, args: JsonObject, question: Question): Promise<void> {
  for (;;) {
    const request = await relay.submit(name, args, question);
    if (request.decision) return;
    const { request_id, client_request_key, respond_by } = request;
    interrupt({ type: "relaytrace", request_id, client_request_key, respond_by, name, args });
  }
}
