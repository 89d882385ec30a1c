/** For the OpenAI Agents SDK (npm `@openai/agents`): a function tool that a person approves. */

import { type RunContext, tool } from "@openai/agents";
import { RelayError, Responded, textForModel } from "./errors.js";
import type { JsonObject } from "./json.js";
import type { AskOptions, Relay } from "./relay.js";

type ToolOptions = Parameters<typeof tool>[0];
type Details = { toolCall?: { callId: string }; signal?: AbortSignal };

export interface ApprovedToolOptions {
  /** The options of a question, from the tool's input. */
  ask?: (input: JsonObject) => Omit<AskOptions, "key" | "parse">;
  /** The run or session: with the id of the tool call it names the request, so that a restart finds it again. */
  scope: string | ((context: RunContext<unknown> | undefined) => string);
}

/** The schema's own check of Zod and of other Standard Schema libraries. */
interface StandardSchema {
  "~standard": { validate(value: unknown): StandardResult | Promise<StandardResult> };
}
type StandardResult = { value: unknown; issues?: undefined } | { issues: readonly { message: string }[] };

/**
 * `tool(options)`, whose `execute` asks, waits, uses the approval, runs with the approved arguments, edited or not, and
 * reports. A refusal is the tool's result, in words for the model. With `needsApproval` as well, what the run's state
 * says is no evidence: the relay is asked all the same.
 */
export function approvedTool<T = ReturnType<typeof tool>>(
  relay: Relay,
  options: ToolOptions,
  { ask = () => ({}), scope }: ApprovedToolOptions,
): T {
  const { execute, parameters } = options as { execute: (...args: unknown[]) => unknown; parameters: unknown };
  const name = (options as { name?: string }).name ?? execute.name;
  const asking = async (input: unknown, context?: RunContext<unknown>, details?: Details) => {
    try {
      const args = (input ?? {}) as JsonObject;
      const within = typeof scope === "function" ? scope(context) : scope;
      const callId = details?.toolCall?.callId;
      if (!callId) throw new RelayError("the framework names no tool call, so the request would have no key");
      const key = `${within}:${callId}`.replace(/[^A-Za-z0-9._:-]/g, "-");
      const question = { ...ask(args), key, parse: parser(name, parameters), signal: details?.signal };
      return await relay.ask<object, unknown>(name, args, question, (permit) =>
        execute(permit.arguments, context, details),
      );
    } catch (error) {
      if (error instanceof Responded) return error.value;
      if (error instanceof RelayError) return textForModel(error);
      throw error;
    }
  };
  return tool({ ...options, name, execute: asking } as ToolOptions) as unknown as T;
}

/** Edited arguments have to fit the tool, too. */
function parser(name: string, parameters: unknown) {
  const standard = (parameters as Partial<StandardSchema> | undefined)?.["~standard"];
  return async (approved: object): Promise<object> => {
    const result = await standard?.validate(approved);
    if (result?.issues) {
      throw new RelayError(
        `the edited arguments do not fit ${name}: ${result.issues.map(({ message }) => message).join("; ")}`,
      );
    }
    return result ? ((result as { value: unknown }).value as object) : approved;
  };
}
