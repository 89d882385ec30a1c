/** A used approval: the action may run once, now. */

import type { Decision } from "./model.js";

/** Longest note of an outcome. */
const MAX_NOTE = 2_000;

/** How a run under a permit ended. */
export interface Ending {
  state: "succeeded" | "failed" | "open";
  note?: string | undefined;
}

/** An approval that was used for one run: what may run, and what is reported of its end. */
export class Permit<A extends object = object> {
  /** The approved arguments, edited or not; frozen, unless `parse` made others of them. */
  readonly arguments: A;
  #ending: Ending | undefined;

  constructor(
    /** What was decided, by whom. */
    readonly decision: Decision,
    approved: A,
    /** Of the action that was approved. */
    readonly digest: string,
    /** The caller's own: aborted, the run should stop. */
    readonly signal?: AbortSignal | undefined,
  ) {
    this.arguments = approved;
  }

  /** Whether the operator changed the arguments. */
  get edited(): boolean {
    return this.decision.edited ?? false;
  }

  /** The decision as a compact JWS that anyone can verify offline. */
  get receipt(): string {
    return this.decision.receipt;
  }

  /** For code that returns its errors: the run failed, although nothing is thrown. */
  fail(note: string): void {
    this.#ending = { state: "failed", note: note.slice(0, MAX_NOTE) || "failed" };
  }

  /** The run succeeded, whatever is thrown. */
  succeed(note?: string): void {
    this.#ending = { state: "succeeded", note: note?.slice(0, MAX_NOTE) };
  }

  /** The run does not end with the callback, or nobody knows how it ended: nothing is reported. */
  leaveOpen(): void {
    this.#ending = { state: "open" };
  }

  /** The same approval, for the rest of a run that interrupted itself. */
  reopened(): Permit<A> {
    return new Permit(this.decision, this.arguments, this.digest, this.signal);
  }

  /** What was said of the end; undefined where the callback's end says it. */
  get ending(): Ending | undefined {
    return this.#ending;
  }
}

/** What an operator reads of an error: its name and message. */
export function outcomeNote(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return text.toWellFormed().replaceAll("\0", "").slice(0, MAX_NOTE);
}
