/** For LangChain (npm `langchain`, version 1): a middleware, so that a person approves tool calls. */

import { ToolMessage } from "@langchain/core/messages";
import { interrupt } from "@langchain/langgraph";
import { createMiddleware } from "langchain";
import { RelayError, Responded, textForModel } from "./errors.js";
import type { JsonObject } from "./json.js";
import type { AskOptions, Relay } from "./relay.js";

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

/** Each tool call asks, waits, uses the approval, runs with the approved arguments, edited or not, and reports. */
export function approvals(relay: Relay, { ask = () => ({}), scope, interrupts = false }: ApprovalOptions = {}) {
  return createMiddleware({
    name: "RelayTraceApprovals",
    wrapToolCall: async (request, handler) => {
      const { toolCall, runtime } = request;
      const { id, name } = toolCall;
      const args = toolCall.args as JsonObject;
      const options = ask({ name, args });
      if (!options) return handler(request);
      try {
        const within = runtime.configurable?.thread_id ?? scope;
        if (!within || !id)
          throw new RelayError("the call has no thread_id and no scope, or no id, so the request would have no key");
        const key = `${within}:${id}`.replace(/[^A-Za-z0-9._:-]/g, "-");
        const question = { signal: runtime.signal, ...options, key };
        if (interrupts) await interruptWhilePending(relay, name, args, question);
        return await relay.ask(name, args, question, async (permit) => {
          const result = await handler({ ...request, toolCall: { ...toolCall, args: permit.arguments } });
          if (result instanceof ToolMessage && result.status === "error") permit.fail(result.text);
          return result;
        });
      } catch (error) {
        if (!(error instanceof RelayError)) throw error;
        const status = error instanceof Responded ? "success" : "error";
        return new ToolMessage({ content: textForModel(error), tool_call_id: id ?? "", name, status });
      }
    },
  });
}

async function interruptWhilePending(
  relay: Relay,
  name: string,
  args: JsonObject,
  question: AskOptions,
): Promise<void> {
  for (;;) {
    const request = await relay.submit(name, args, question);
    if (request.decision) return;
    const { request_id, client_request_key, respond_by } = request;
    interrupt({ type: "relaytrace", request_id, client_request_key, respond_by, name, args });
  }
}
