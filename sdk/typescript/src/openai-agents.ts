/** For the OpenAI Agents SDK (npm `@openai/agents`): a function tool that a person approves. */

import { type RunContext, tool } from "@openai/agents";
import { ALL_ANSWERS, Calls, keyOf } from "./adapter.js";
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
  /**
   * Do not wait in this process: a call that nobody has decided interrupts the run. Keep its state, approve its interruptions
   * in any process, and run again. That approval counts for nothing: the relay is asked again.
   */
  interrupts?: boolean;
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
  { ask = () => ({}), scope, interrupts = false }: ApprovedToolOptions,
): T {
  const { execute, parameters } = options as { execute: (...args: unknown[]) => unknown; parameters: unknown };
  const name = (options as { name?: string }).name ?? execute.name;
  const calls = new Calls(relay);
  const scopeOf = (context?: RunContext<unknown>) => (typeof scope === "function" ? scope(context) : scope);
  const isUndecided = async (context: RunContext<unknown>, input: unknown, callId?: string) => {
    const args = (input ?? {}) as JsonObject;
    try {
      const key = await keyOf({ scope: scopeOf(context), callId, name, args });
      return !(await relay.submit(name, args, { answers: ALL_ANSWERS, ...ask(args), key })).decision;
    } catch (error) {
      // What was not asked pauses no run: `execute` asks itself, and the model is told.
      if (error instanceof RelayError) return false;
      throw error;
    }
  };
  const asking = async (input: unknown, context?: RunContext<unknown>, details?: Details) => {
    const args = (input ?? {}) as JsonObject;
    return calls.run<unknown>({
      name,
      args,
      scope: scopeOf(context),
      callId: details?.toolCall?.callId,
      options: {
        ...ask(args),
        ...(interrupts && { waitSeconds: 0 }),
        parse: parser(name, parameters),
        signal: details?.signal,
      },
      run: (permit) => execute(permit.arguments, context, details),
      refuse: (error) => (error instanceof Responded ? error.value : textForModel(error)),
    });
  };
  const needsApproval = interrupts && { needsApproval: isUndecided };
  return tool({ ...options, ...needsApproval, name, execute: asking } as ToolOptions) as unknown as T;
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
