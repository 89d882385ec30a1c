/** For the AI SDK (npm `ai`, version 7): tools that a person approves. */

import { asSchema, type ToolApprovalStatus, type ToolSet } from "ai";
import { ALL_ANSWERS, Calls, keyOf } from "./adapter.js";
import { RelayError, Responded, StillPending, textForModel } from "./errors.js";
import type { JsonObject } from "./json.js";
import type { AskOptions, Relay } from "./relay.js";

export interface ApprovalOptions {
  /** Options of a tool's questions, or false for a tool that needs nobody. Every tool is asked about by default. */
  ask?: (call: {
    toolName: string;
    toolCallId: string;
    input: JsonObject;
  }) => Omit<AskOptions, "key" | "parse"> | false;
  /** The chat or workflow: with the id of the tool call it names the request, so that a restart finds it again. */
  scope: string;
  /**
   * Do not wait in this process: a call that nobody has decided ends the run as `user-approval`. Keep the messages, append
   * a `tool-approval-response` in any process, and run again. With `approved: false` the call does not run. With
   * `approved: true` the relay is asked again: the response is no approval.
   */
  interrupts?: boolean;
}

interface ExecutionOptions {
  toolCallId: string;
  abortSignal?: AbortSignal;
}

/**
 * `tools` whose `execute` asks, waits, uses the approval, runs with the approved arguments and reports; and a
 * `toolApproval` that waits for the answer before, so that a refusal shows as a denied call with its reason.
 *
 * An approval in the messages is no evidence: `execute` asks the relay again under the same key.
 */
export function approvals<TOOLS extends ToolSet>(
  relay: Relay,
  tools: TOOLS,
  { scope, ask = () => ({}), interrupts = false }: ApprovalOptions,
) {
  const calls = new Calls(relay);
  const optionsOf = (toolName: string, toolCallId: string, input: unknown) => {
    const options = ask({ toolName, toolCallId, input: input as JsonObject });
    return options && interrupts ? { ...options, waitSeconds: 0 } : options;
  };

  const guarded = Object.entries(tools).map(([toolName, tool]) => {
    const { execute, inputSchema } = tool;
    if (!execute) return [toolName, tool];
    const parse = async (approved: object) => {
      const result = await asSchema(inputSchema).validate?.(approved);
      if (result && !result.success)
        throw new RelayError(`the edited arguments do not fit ${toolName}: ${result.error.message}`);
      return (result?.value ?? approved) as object;
    };
    const asking = async (input: object, execution: ExecutionOptions) => {
      const options = optionsOf(toolName, execution.toolCallId, input);
      if (!options) return lastOf(await execute(input, execution as never));
      return calls.run({
        name: toolName,
        args: input,
        scope,
        callId: execution.toolCallId,
        options: { ...options, parse, signal: execution.abortSignal },
        run: async (permit) => lastOf(await execute(permit.arguments, execution as never)),
        refuse: (error) => {
          if (error instanceof Responded) return error.value;
          throw new Error(textForModel(error), { cause: error });
        },
      });
    };
    return [toolName, { ...tool, execute: asking }];
  });

  const toolApproval = async ({
    toolCall,
  }: {
    toolCall: { toolName: string; toolCallId: string; input: unknown };
  }): Promise<ToolApprovalStatus> => {
    const { toolName, toolCallId, input } = toolCall;
    if (!tools[toolName]?.execute) return undefined;
    try {
      const options = optionsOf(toolName, toolCallId, input);
      if (!options) return "not-applicable";
      const args = input as object;
      const key = await keyOf({ scope, callId: toolCallId, name: toolName, args });
      await relay.approved(toolName, args, { answers: ALL_ANSWERS, ...options, key });
      return "approved";
    } catch (error) {
      // The answer is the tool's result: `execute` returns it.
      if (error instanceof Responded) return "approved";
      if (interrupts && error instanceof StillPending) return "user-approval";
      return { type: "denied", reason: textForModel(error) };
    }
  };
  return { tools: Object.fromEntries(guarded) as TOOLS, toolApproval };
}

/** Of a tool that streams, its last output: it runs once, and ends before its outcome is reported. */
async function lastOf(output: unknown): Promise<unknown> {
  if (typeof output !== "object" || output === null || !(Symbol.asyncIterator in output)) return output;
  let last: unknown;
  for await (const part of output as AsyncIterable<unknown>) last = part;
  return last;
}
