/**
 * Errors. None of them is an approval: after each, the action did not run.
 *
 * The message says what is the case and what to do about it. {@link textForModel} says it to a model.
 */

import type { Json, JsonObject } from "./json.js";
import type { Actor, Decision } from "./model.js";

/** The base of every error of this package. */
export class RelayError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

// ---------------------------------------------------------------- what was given to the client

/** Something given to the client, or in its environment, cannot be used. */
export class ConfigurationError extends RelayError {}

/** A value that JSON (I-JSON, RFC 7493) cannot hold exactly. */
export class UnsupportedValue extends ConfigurationError {
  constructor(
    /** Where it is (RFC 6901). */
    readonly pointer: string,
    what: string,
  ) {
    super(`${pointer || "the value"} ${what}`);
  }
}

// ---------------------------------------------------------------- no answer that counts

/** There is no verified answer. Whether the last call had an effect is not known; asking again with the same key is safe. */
export class NoAnswer extends RelayError {}

/** Nothing answers at the address: check `RELAYTRACE_URL`, and that the relay runs. */
export class Unreachable extends NoAnswer {}

/** No answer came in time. */
export class TooSlow extends NoAnswer {}

/** The relay cannot serve the call now (502 to 504), or not so often (429): try again later. */
export class Unavailable extends NoAnswer {}

/** Something answers at the address, and it is not the relay's API. */
export class WrongUrl extends NoAnswer {}

/** The relay does not accept this key: of another deployment, revoked, expired, or its agent is disabled. */
export class WrongKey extends NoAnswer {}

/** The answer is signed with another secret than the one configured. */
export class WrongSecret extends NoAnswer {}

/** The two clocks differ by more than signatures and tokens allow. */
export class WrongClock extends NoAnswer {
  constructor(
    /** How far this machine's clock is ahead of the relay's; negative if it is behind. */
    readonly aheadSeconds: number,
  ) {
    const side = aheadSeconds < 0 ? "behind" : "ahead of";
    super(
      `this machine's clock is ${Math.abs(aheadSeconds)} s ${side} the relay's, and 30 s are allowed: set the clock (NTP)`,
    );
  }
}

/** The answer or receipt comes from another deployment than the one that issued this key. */
export class WrongDeployment extends NoAnswer {}

/** The answer is signed, and it is about another request. */
export class OtherAnswer extends NoAnswer {}

/** The answer is not signed as the contract says, or was changed on its way. */
export class Unverified extends NoAnswer {}

/** A verified answer does not follow the contract: the relay is of a version that this package does not know. */
export class ContractBroken extends RelayError {}

/** A receipt does not verify, or states another decision. */
export class WrongReceipt extends RelayError {}

/** A problem document (RFC 9457) of the relay. */
export interface Problem {
  code: string;
  status: number;
  detail: string;
  instance: string;
  retryable: boolean;
  retry_after_ms?: number;
  errors?: { pointer: string; detail: string }[];
  decision?: { request_id?: string } & JsonObject;
  trace_id: string;
}

/** Code, detail and every fault. */
export function wordsOf({ code, detail, errors = [] }: Problem): string {
  return `${code}: ${detail}${errors.map((fault) => `; ${fault.pointer || "/"}: ${fault.detail}`).join("")}`;
}

/** The relay refused the call, signed; the same call would be refused again. */
export class Refused extends RelayError {
  constructor(readonly problem: Problem) {
    const advice = ADVICE[problem.code];
    super(`${wordsOf(problem)}${advice ? `. ${advice}` : ""} (trace ${problem.trace_id})`);
  }

  /** The code that programs compare, such as `forbidden`. */
  get code(): string {
    return this.problem.code;
  }
}

/** The key stands for another question. Use another `key`, or ask with the same title, priority and context. */
export class KeyReused extends Refused {}

const ADVICE: Record<string, string | undefined> = {
  forbidden: "The agent's key must be that of the agent named, and needs the scopes ask and execute",
  "idempotency-key-reused": "The same key was used for another question: use a new key, or ask the same question",
  "not-found": "The relay does not know this request for this agent, or is too old to know the call",
};

// ---------------------------------------------------------------- answers that are not an approval

/** A verified answer, and not an approval: the action must not run. */
export class NotApproved extends RelayError {
  constructor(
    message: string,
    readonly decision?: Decision,
  ) {
    super(message);
  }
}

/** A person, a rule or an administrator said no. */
export class Rejected extends NotApproved {
  /** In the words of who rejected it; null where none was given. */
  readonly reason: string | null;
  /** Who: `by.kind` is operator or admin, or system where it was a rule. */
  readonly by: Actor;

  constructor(decision: Decision) {
    const { decided_by: by, reason, cause } = decision;
    const who = cause === "policy" ? `a rule (${by.id})` : `a person (${by.name ?? by.id})`;
    super(`rejected by ${who}${said(reason)}`, decision);
    this.reason = reason;
    this.by = by;
  }
}

/** Nobody answered in time: no person said no. */
export class TimedOut extends NotApproved {
  constructor(decision: Decision) {
    super("nobody answered in time, so the request was rejected by its timeout; no person said no", decision);
  }
}

/** The question was withdrawn. */
export class Cancelled extends NotApproved {
  readonly reason: string | null;

  constructor(decision: Decision) {
    super(`the request was cancelled${said(decision.reason)}`, decision);
    this.reason = decision.reason;
  }
}

/** A person answered the question instead of having the action run. */
export class Responded extends NotApproved {
  /** The answer, as the person gave it. */
  readonly value: Json;

  constructor(decision: Decision) {
    super("a person answered instead of approving", decision);
    this.value = decision.response ?? null;
  }
}

/** The approval was used before: by an earlier attempt that may have run, or by another process. */
export class AlreadyUsed extends NotApproved {
  constructor(decision: Decision) {
    super(
      `the approval of ${decision.request_id} was used before: the action may have run. ` +
        "Look at the effect; to run it once more, ask with a new key",
      decision,
    );
  }
}

/** The approval was withdrawn by an administrator's stop. */
export class PermitRevoked extends NotApproved {
  constructor(decision: Decision) {
    super("an administrator stopped actions of this kind: the approval cannot be used any more", decision);
  }
}

/** An administrator's hold covers the action for now. */
export class Frozen extends NotApproved {
  constructor(decision: Decision) {
    super(
      "an administrator holds actions of this kind for now: ask again later with the same key, the approval stands",
      decision,
    );
  }
}

/** The approval was not used in time, several times in a row. */
export class PermitExpired extends NotApproved {
  constructor(decision: Decision) {
    super("the approval was not used in time, and so were those before it: ask with a new key", decision);
  }
}

/** An outcome that this version of the package does not know. */
export class UnknownOutcome extends NotApproved {
  constructor(decision: Decision) {
    super(`the outcome is ${decision.outcome}, which this version of the package does not know: update it`, decision);
  }
}

/** Nobody has answered yet, and the caller's time is over. The request goes on; the same key attaches to it. */
export class StillPending extends NotApproved {
  constructor(
    readonly requestId: string,
    readonly key: string,
  ) {
    super(`${requestId} waits for a person: ask again with the same key (${key}) to go on waiting`);
  }
}

/** The deadline has passed, and the relay has not decided by itself. */
export class Undecided extends NotApproved {
  constructor(readonly requestId: string) {
    super(`${requestId} is pending after its deadline: the relay's timeout sweep does not run; tell its administrator`);
  }
}

/** The error for a decision that is not an approval. */
export function notApproved(decision: Decision): NotApproved {
  if (decision.outcome === "responded") return new Responded(decision);
  if (decision.outcome === "cancelled") return new Cancelled(decision);
  if (decision.outcome !== "rejected") return new UnknownOutcome(decision);
  return decision.cause === "timeout" ? new TimedOut(decision) : new Rejected(decision);
}

function said(reason: string | null): string {
  return reason ? `: ${reason}` : "";
}

/**
 * What a model is told instead of the tool's result. Pending, timed out, rejected by a person, rejected by a rule,
 * cancelled and already used are six different texts; an answer by `respond` is the answer.
 */
export function textForModel(error: unknown): string {
  if (error instanceof Responded) return typeof error.value === "string" ? error.value : JSON.stringify(error.value);
  if (error instanceof StillPending) {
    return "The tool did not run: a person has not answered yet. The request still stands; call the tool again with the same arguments later.";
  }
  if (error instanceof TimedOut) {
    return "The tool did not run: nobody answered in time. No person said no; ask again only if it still matters.";
  }
  if (error instanceof Rejected) {
    const reason = error.reason ? ` The reason: ${error.reason}` : " No reason was given.";
    if (error.decision?.cause === "policy") return `The tool did not run: a rule does not allow it.${reason}`;
    return `The tool did not run: a person (${error.by.name ?? error.by.id}) rejected it.${reason} Do not try it again unchanged.`;
  }
  if (error instanceof Cancelled) return `The tool did not run: the request was cancelled${said(error.reason)}.`;
  if (error instanceof AlreadyUsed) {
    return "The tool was not run again: its approval was used before, and it may have run then. Look at the effect before anything else.";
  }
  if (error instanceof NotApproved) return `The tool did not run: ${error.message}.`;
  return `The tool did not run: no valid decision could be obtained (${error instanceof Error ? error.message : String(error)}).`;
}
