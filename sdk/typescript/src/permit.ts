/** A used approval: the action may run once, now. */

import type { Decision } from "./model.js";

/** Longest note of an outcome. */
const MAX_NOTE = 2_000;

export class Permit<A extends object = object> {
  /** The approved arguments, edited or not; frozen, unless `parse` made others of them. */
  readonly arguments: A;
  #failure: string | undefined;

  constructor(
    readonly decision: Decision,
    approved: A,
    /** Of the action that was approved. */
    readonly digest: string,
    readonly signal?: AbortSignal | undefined,
  ) {
    this.arguments = approved;
  }

  /** Whether the operator changed the arguments. */
  get edited(): boolean {
    return this.decision.edited ?? false;
  }

  get receipt(): string {
    return this.decision.receipt;
  }

  /** For code that returns its errors: the outcome is then reported as failed, although nothing is thrown. */
  fail(note: string): void {
    this.#failure = note.slice(0, MAX_NOTE) || "failed";
  }

  get failure(): string | undefined {
    return this.#failure;
  }
}

/** What an operator reads of an error: its name and message. */
export function outcomeNote(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return text.toWellFormed().replaceAll("\0", "").slice(0, MAX_NOTE);
}
