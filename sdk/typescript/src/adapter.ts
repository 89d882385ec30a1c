/** What the adapters share: the key of a call, and a run under its approval. */

import { RelayError } from "./errors.js";
import { actionDigest, type JsonObject, sha256, snapshot } from "./json.js";
import type { Answer, Question } from "./model.js";
import type { Permit } from "./permit.js";
import type { AskOptions, Relay } from "./relay.js";

/** What a call can take where its options do not say: an edit is run as it was approved, a response is the result. */
export const ALL_ANSWERS: Answer[] = ["approve", "reject", "edit", "respond"];
const PLAIN = /^[A-Za-z0-9._-]{1,48}$/;
/** Runs that interrupted themselves, kept at once. What falls out is recorded as unknown by the relay itself. */
export const MAX_HELD = 1_000;

/** A tool call of a framework. */
export interface ToolCall<T> {
  name: string;
  args: object;
  /** The run, and the framework's own id of the call: what a repeated run finds its questions by. */
  scope: string | undefined;
  callId: string | undefined;
  options: Omit<AskOptions<object>, "key">;
  /** Runs before the question is asked. */
  before?: (question: Question & { key: string }) => Promise<void>;
  /** The tool. `hold` says that it interrupted itself. */
  run: (permit: Permit, hold: () => void) => T | Promise<T>;
  /** The result where there is no approval. */
  refuse: (error: RelayError) => T;
}

/** The calls of one framework: each asks, uses the approval, runs and reports. */
export class Calls {
  readonly #held = new Map<string, Permit>();

  constructor(readonly relay: Relay) {}

  /** The result of the tool or of `refuse`. An error of the tool is thrown on, also one of a relay that it asks. */
  async run<T>(call: ToolCall<T>): Promise<T> {
    const { name, args, options, before, run, refuse } = call;
    let key: string;
    let permit: Permit;
    try {
      key = await keyOf(call);
      const question = { answers: ALL_ANSWERS, ...options, key };
      const held = this.#take(key);
      if (!held) await before?.(question);
      permit = held ?? (await this.relay.permit(name, args, question));
    } catch (error) {
      if (error instanceof RelayError) return refuse(error);
      throw error;
    }
    return this.relay.perform(permit, () => run(permit, () => this.#hold(key, permit)));
  }

  #take(key: string): Permit | undefined {
    const held = this.#held.get(key);
    this.#held.delete(key);
    return held?.reopened();
  }

  /**
   * The tool interrupted itself after its approval was used: that is no outcome. The same call goes on under this
   * approval in this process; in another one it is `AlreadyUsed`, since nobody there knows what has run.
   */
  #hold(key: string, permit: Permit): void {
    permit.leaveOpen();
    this.#held.set(key, permit);
    const [oldest] = this.#held.keys();
    if (this.#held.size > MAX_HELD && oldest !== undefined) this.#held.delete(oldest);
  }
}

/** The digest is part of it: a framework that numbers its calls anew in each process cannot find another's approval. */
export async function keyOf({
  scope,
  callId,
  name,
  args,
}: Pick<ToolCall<unknown>, "scope" | "callId" | "name" | "args">): Promise<string> {
  if (!scope || !callId)
    throw new RelayError("the call has no scope (a thread_id), or no id: its question would have no key");
  const digest = await actionDigest({ type: name, arguments: snapshot(args) as JsonObject });
  const plain = await Promise.all([scope, callId].map(async (part) => (PLAIN.test(part) ? part : sha256(part))));
  return [...plain.map((part) => part.slice(0, 48)), digest.slice(-24)].join(":");
}
