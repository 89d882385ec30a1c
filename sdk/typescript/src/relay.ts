/** The client of one agent: asks, waits, consumes, reports. */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { About } from "./about.js";
import { configure, environmentOptions, type RelayOptions } from "./configuration.js";
import {
  AlreadyUsed,
  ConfigurationError,
  ContractBroken,
  Frozen,
  NotApproved,
  notApproved,
  OtherAnswer,
  StillPending,
  PermitExpired,
  PermitRevoked,
  Refused,
  type RelayError,
  Undecided,
} from "./errors.js";
import { actionDigest, type JsonObject, sha256, snapshot } from "./json.js";
import type { Decision, Question, Receipt, ReceiptKeys, RequestState } from "./model.js";
import { outcomeNote, Permit } from "./permit.js";
import { defaultTitle, envelopeOf } from "./question.js";
import { verifyReceipt } from "./receipt.js";
import { Transport } from "./transport.js";

/** Longest wait of a call: below the idle timeout (60 s) of common proxies. */
const LONGEST_WAIT_SECONDS = 50;
/** Between two looks at a request of a deployment that lets no call wait. */
const LOOK_AGAIN_MS = 1_000;
/** From a deadline to the end of the sweep that decides what nobody has answered, with what clocks may differ. */
const SWEEP_SECONDS = 120;
/** So often an approval that was not used in time is asked for anew. */
const MAX_ASKS = 20;

/** How an answer is waited for. */
export interface WaitOptions {
  /** Give up after so many seconds with {@link StillPending}; without it, the request's own deadline ends the wait. */
  waitSeconds?: number | undefined;
  /** Aborted, it ends the wait and withdraws the question. */
  signal?: AbortSignal | undefined;
}

/** What can be said with a question, how its answer is waited for, and how approved arguments are checked. */
export interface AskOptions<A = JsonObject> extends Question, WaitOptions {
  /** Checks the approved arguments before the approval is used, and may convert them; what it throws leaves it unused. */
  parse?: (approved: A) => A | Promise<A>;
}

/** Options of a guard: each may depend on the arguments. */
export type GuardOptions<A> = {
  [Name in keyof AskOptions<A>]:
    | AskOptions<A>[Name]
    | (Name extends "parse" ? never : (args: A) => AskOptions<A>[Name]);
};

/** A request, with the question that it came from. */
export interface Request extends RequestState {
  /** The arguments asked about, frozen. */
  readonly arguments: JsonObject;
  /** The kind of action. */
  readonly type: string;
}

/**
 * An agent's client: asks a person, waits, uses the approval once, reports the outcome. Every answer is verified, or counts
 * as none.
 *
 * ```js
 * const relay = Relay.fromEnv();
 * await relay.ask("refund.create", { amount: "12.40" }, { title: "Refund 12.40 EUR" }, (permit) => refund(permit.arguments));
 * ```
 */
export class Relay {
  /** The agent that asks. */
  readonly agentId: string;
  readonly #options: Partial<RelayOptions>;
  readonly #transport: Transport;
  readonly #warn: (message: string) => void;
  /** How often a call was made in this run, where the run has a name. */
  readonly #ordinals = new Map<string, number>();
  #receiptKeys: Promise<ReceiptKeys> | undefined;

  /** @throws {ConfigurationError} */
  constructor(options: RelayOptions) {
    const { url, agentId, credentials, secret } = configure(options);
    this.agentId = agentId;
    this.#options = options;
    this.#warn = options.onWarning ?? ((message) => process.emitWarning(message, "RelayTrace"));
    const { trySeconds = 10, patienceSeconds = 120 } = options;
    const call: typeof fetch = options.fetch ?? ((...request) => fetch(...request));
    this.#transport = new Transport({ url, credentials, secret, trySeconds, patienceSeconds, fetch: call });
  }

  /** A relay as the environment describes it (`RELAYTRACE_URL` and so on); `options` win. */
  static fromEnv(options: Partial<RelayOptions> = {}): Relay {
    return new Relay(environmentOptions(options) as RelayOptions);
  }

  /** The same relay for a run of this name, which counts its equal calls from the start. */
  run(runId: string): Relay {
    return new Relay({ ...this.#options, runId } as RelayOptions);
  }

  /**
   * Asks for an action, waits for the answer, uses the approval, and runs `run` with the approved arguments, edited or
   * not. Its end or its throw is reported as the outcome.
   *
   * @param type The kind of action, such as `refund.create`.
   * @param args What it is done with: an object that JSON can hold exactly.
   * @param options What the operator reads, the answers that the agent can take, and how long it waits.
   * @param run The action. It runs once, and only under an approval of exactly these arguments.
   * @returns What `run` returns.
   * @throws {NotApproved} where the answer is no approval, {@link RelayError} where there is no answer that counts.
   */
  async ask<A extends object, T>(
    type: string,
    args: A,
    options: AskOptions<A>,
    run: (permit: Permit<A>) => T | Promise<T>,
  ): Promise<T> {
    refuseGenerators(run);
    return this.perform(await this.permit(type, args, options), run);
  }

  /** `run`, asking each time with its arguments: one object. The result is that of `run`. */
  guard<A extends object, T>(
    type: string,
    run: (args: A, permit: Permit<A>) => T | Promise<T>,
    options: GuardOptions<A> = {},
  ): (args: A) => Promise<T> {
    refuseGenerators(run);
    return (args) => {
      const entries = Object.entries(options).map(([name, value]) => [
        name,
        typeof value === "function" && name !== "parse" ? (value as (args: A) => unknown)(args) : value,
      ]);
      // It runs with the approved arguments, so an edit is safe.
      const question: AskOptions<A> = { answers: ["approve", "reject", "edit"], ...Object.fromEntries(entries) };
      return this.ask(type, args, question, (permit) => run(permit.arguments, permit));
    };
  }

  /** Asks and waits, and uses the approval: from here on the action may run once. {@link ask} reports by itself. */
  async permit<A extends object>(type: string, args: A, options: AskOptions<A> = {}): Promise<Permit<A>> {
    const asked = snapshot(args) as A & JsonObject;
    const first = options.key ?? (await this.#defaultKey(type, asked));
    for (let ask = 1; ; ask += 1) {
      const key = ask === 1 ? first : await keyOfAsk(first, ask);
      const decision = await this.#decisionOf(type, asked, { ...options, key });
      const permit = await this.#consume(type, asked, decision, options);
      if (permit) return permit;
      if (ask === MAX_ASKS) throw new PermitExpired(decision);
    }
  }

  /**
   * Asks and waits until the action is approved, and uses nothing: for frameworks that want to know before they run a
   * tool. Whatever runs then still has to {@link ask}, under the same key.
   *
   * @throws as {@link ask}
   */
  async approved(type: string, args: object, options: Question & WaitOptions = {}): Promise<Decision> {
    const decision = await this.#decisionOf(type, snapshot(args) as JsonObject, options);
    if (decision.outcome === "approved") return decision;
    await this.#settle(decision);
    throw notApproved(decision);
  }

  /** Asks. The same question with the same key is the same request, however often it is asked. */
  async submit(
    type: string,
    args: object,
    question: Question & { signal?: AbortSignal | undefined } = {},
  ): Promise<Request> {
    const asked = snapshot(args) as JsonObject;
    const key = question.key ?? (await this.#defaultKey(type, asked));
    const title = question.title ?? defaultTitle(type, asked);
    const envelope = envelopeOf(this.agentId, type, asked, { ...question, key, title });
    const digest = await actionDigest({ type, arguments: asked });
    const about: About = { agentId: this.agentId, key, digest };
    const { signal } = question;
    const state = await this.#transport.call<RequestState>({
      method: "POST",
      path: "/v1/hitl/requests",
      body: envelope,
      about,
      signal,
    });
    return { ...state, type, arguments: asked };
  }

  /**
   * Waits for the decision on a request: each gets one, at the latest by its timeout. It is no approval to run anything:
   * {@link ask} uses an approval. It looks and takes no delivery, so that of several processes that wait for one request
   * each sees the decision at once.
   *
   * @throws {StillPending} after `waitSeconds`, {@link Undecided} where the deadline passed without a decision.
   */
  async wait(request: RequestState, { waitSeconds, signal }: WaitOptions = {}): Promise<Decision> {
    if (request.decision) return request.decision;
    const { request_id: requestId, client_request_key: key, action_digest: digest } = request;
    const about: About = { agentId: this.agentId, requestId, key, digest };
    const until = waitSeconds === undefined ? Number.POSITIVE_INFINITY : Date.now() + waitSeconds * 1000;
    let respondBy = request.respond_by;
    for (;;) {
      const left = Math.min(until, Date.parse(respondBy) + SWEEP_SECONDS * 1000) - Date.now();
      const wait = Math.max(0, Math.min(LONGEST_WAIT_SECONDS, Math.ceil(left / 1000)));
      const looked = performance.now();
      const now = await this.request(requestId, { about, signal, waitSeconds: wait });
      if (now.decision) return now.decision;
      // The deadline may have been extended.
      respondBy = now.respond_by;
      if (Date.now() >= until) throw new StillPending(requestId, key);
      if (Date.now() >= Date.parse(respondBy) + SWEEP_SECONDS * 1000) throw new Undecided(requestId);
      // A deployment may shorten the wait, even to none.
      const early = LOOK_AGAIN_MS - (performance.now() - looked);
      if (early > 0) await sleep(early, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
    }
  }

  /**
   * A request as it stands, with its decision once there is one: as soon as it is decided, at the latest after
   * `waitSeconds`. It takes no delivery.
   */
  async request(
    requestId: string,
    { waitSeconds = 0, signal, about }: WaitOptions & { about?: About } = {},
  ): Promise<RequestState> {
    return this.#transport.call({
      method: "GET",
      path: `${this.#pathOf(requestId)}${waitSeconds > 0 ? `?wait_seconds=${waitSeconds}` : ""}`,
      waitSeconds,
      about: about ?? { agentId: this.agentId, requestId },
      signal,
    });
  }

  /**
   * The decisions on the agent's requests as they are delivered, until `signal` is aborted. A delivery that is not
   * acknowledged comes again after its lease: say {@link acknowledge}, also for what is rejected.
   */
  async *decisions({ signal, limit = 10 }: { signal?: AbortSignal; limit?: number } = {}): AsyncGenerator<Decision> {
    const path = `/v1/agents/${this.agentId}/decisions/poll?wait_seconds=${LONGEST_WAIT_SECONDS}&limit=${limit}`;
    const about = { agentId: this.agentId };
    while (!signal?.aborted) {
      const polled = await this.#transport
        .call<{ decisions: Decision[]; retry_after_ms?: number }>({
          method: "GET",
          path,
          waitSeconds: LONGEST_WAIT_SECONDS,
          about,
          signal,
        })
        .catch((error) => {
          if (signal?.aborted) return { decisions: [], retry_after_ms: 0 };
          throw error;
        });
      yield* polled.decisions;
      if (polled.decisions.length === 0 && polled.retry_after_ms) await sleep(polled.retry_after_ms);
    }
  }

  /** Says that the agent has the decision: it is not delivered again. */
  async acknowledge(decision: Decision, signal?: AbortSignal): Promise<void> {
    const { request_id: requestId, delivery_id: deliveryId } = decision;
    const path = `/v1/agents/${this.agentId}/decisions/${requestId}/ack`;
    // Without a delivery it ends whichever is the latest.
    const body = { ...(deliveryId ? { delivery_id: deliveryId } : {}), result: "accepted" };
    const about: About = { agentId: this.agentId, requestId, deliveryId: deliveryId ?? null };
    await this.#transport.call({ method: "POST", path, body, about, signal });
  }

  /** Withdraws the question. @throws {Refused} (`already-decided`) where it was decided before. */
  async cancel(requestId: string, reason?: string): Promise<void> {
    const about: About = { agentId: this.agentId, requestId };
    const body = reason === undefined ? {} : { reason };
    await this.#transport.call({ method: "POST", path: `${this.#pathOf(requestId)}/cancel`, body, about });
  }

  /** The public keys that receipts verify with: keep them to verify offline. */
  receiptKeys(): Promise<ReceiptKeys> {
    return this.#transport.open("/.well-known/jwks.json");
  }

  /** The claims of a decision's receipt. With `keys` it needs no connection. */
  async verifyReceipt(decision: Decision, keys?: ReceiptKeys): Promise<Receipt> {
    if (!keys) {
      this.#receiptKeys ??= this.receiptKeys().catch((error) => {
        this.#receiptKeys = undefined;
        throw error;
      });
    }
    return verifyReceipt(decision, keys ?? ((await this.#receiptKeys) as ReceiptKeys), this.#options.deployment);
  }

  #pathOf(requestId: string): string {
    return `/v1/agents/${this.agentId}/requests/${encodeURIComponent(requestId)}`;
  }

  /** Digest of the run and the call, with the ordinal of equal calls in the run. */
  async #defaultKey(type: string, asked: JsonObject): Promise<string> {
    const { runId } = this.#options;
    const call = await actionDigest({ type, arguments: asked });
    if (runId === undefined) return `${(await sha256(call)).slice(0, 32)}:${randomUUID()}`;
    const name = await sha256(`${runId}\n${call}`);
    const ordinal = (this.#ordinals.get(name) ?? 0) + 1;
    this.#ordinals.set(name, ordinal);
    return `${name}:${ordinal}`;
  }

  async #decisionOf(type: string, asked: JsonObject, options: Question & WaitOptions): Promise<Decision> {
    const { signal } = options;
    let request: Request | undefined;
    try {
      request = await this.submit(type, asked, options);
      return await this.wait(request, options);
    } catch (error) {
      if (signal?.aborted && request) await this.#withdraw(request.request_id);
      throw error;
    }
  }

  /** The caller has stopped waiting, so that nobody needs to answer. */
  async #withdraw(requestId: string): Promise<void> {
    await this.cancel(requestId, "the caller stopped waiting").catch((error) => {
      const isDecided = error instanceof Refused && error.problem.code === "already-decided";
      if (!isDecided) this.#warn(`${requestId} was not withdrawn: ${error.message}`);
    });
  }

  /** The used permit; undefined where the approval was not used in time and is to be asked for anew. */
  async #consume<A extends object>(
    type: string,
    asked: A & JsonObject,
    decision: Decision,
    { parse, signal }: AskOptions<A>,
  ): Promise<Permit<A> | undefined> {
    if (decision.outcome !== "approved") {
      await this.#settle(decision);
      throw notApproved(decision);
    }
    const approved = decision.edited ? editedArguments(decision) : asked;
    // Compared here, on the very arguments that are about to run.
    const digest = await actionDigest({ type, arguments: approved });
    if (digest !== decision.action_digest) {
      throw new OtherAnswer(
        `the approval's digest is ${decision.action_digest}, that of what is about to run ${digest}: it did not run`,
      );
    }
    if (this.#options.deployment !== undefined) await this.verifyReceipt(decision);
    const usable = parse ? await parse(approved as A) : (approved as A);
    const { request_id: requestId } = decision;
    // Fresh for each attempt: after a crash between this call and the run, the action is not run again.
    const body = { consume_key: randomUUID(), action_digest: digest };
    const about: About = { agentId: this.agentId, requestId, digest };
    signal?.throwIfAborted();
    try {
      await this.#transport.call({ method: "POST", path: `${this.#pathOf(requestId)}/consume`, body, about });
    } catch (error) {
      const code = error instanceof Refused ? error.problem.code : "";
      if (code === "permit-expired") return undefined;
      throw refusedUse(code, decision) ?? error;
    }
    return new Permit(decision, usable, digest, signal);
  }

  /** Ends the delivery of an answer that permits nothing; the answer counts all the same. */
  async #settle(decision: Decision): Promise<void> {
    await this.acknowledge(decision).catch((error) => {
      const isStale = error instanceof Refused && error.problem.code === "stale-delivery";
      if (!isStale) this.#warn(`${decision.request_id}: the answer was not acknowledged: ${error.message}`);
    });
  }

  /** Runs under a used approval, and reports how the run ended. {@link ask} is `permit` and this. */
  async perform<A extends object, T>(permit: Permit<A>, run: (permit: Permit<A>) => T | Promise<T>): Promise<T> {
    try {
      const result = await run(permit);
      await this.#end(permit, "succeeded");
      return result;
    } catch (error) {
      // Of a run that was told to stop nobody knows how far it came.
      if (permit.signal?.aborted) permit.leaveOpen();
      await this.#end(permit, "failed", outcomeNote(error));
      throw error;
    }
  }

  /** Reports what the permit says of its end, or else `state`. */
  async #end(permit: Permit<object>, state: "succeeded" | "failed", note?: string): Promise<void> {
    const ending = permit.ending ?? { state, note };
    if (ending.state !== "open") await this.report(permit, ending.state, ending.note);
  }

  /** Says what became of the action. Never throws: it ran, and what is not reported becomes `unknown` by itself. */
  async report(permit: Permit<object>, state: "succeeded" | "failed", note?: string): Promise<void> {
    const { request_id: requestId } = permit.decision;
    const body = { state, ...(note ? { note } : {}) };
    const about: About = { agentId: this.agentId, requestId, digest: permit.digest };
    try {
      await this.#transport.call({ method: "POST", path: `${this.#pathOf(requestId)}/outcome`, body, about });
    } catch (error) {
      this.#warn(`${requestId} ran (${state}), and the relay does not know it: ${(error as Error).message}`);
    }
  }
}

/** A generator runs as it is iterated: an outcome would be reported before anything has run. */
function refuseGenerators(run: object): void {
  if (/GeneratorFunction\]$/.test(Object.prototype.toString.call(run)))
    throw new ConfigurationError("the callback is a generator: give a function that runs it to its end");
}

function editedArguments({ action, request_id: requestId }: Decision): JsonObject {
  if (!action) throw new ContractBroken(`${requestId} was edited, and the answer lacks the edited action`);
  return snapshot(action.arguments);
}

/** The error for the code of a refused consume. */
function refusedUse(code: string, decision: Decision): RelayError | undefined {
  switch (code) {
    case "already-consumed":
      return new AlreadyUsed(decision);
    case "permit-revoked":
      return new PermitRevoked(decision);
    case "frozen":
      return new Frozen(decision);
    case "not-approved":
      return new NotApproved("the relay does not hold it for approved", decision);
    default:
      return undefined;
  }
}

/** Key of the n-th ask, after the approvals before it were not used in time. */
async function keyOfAsk(first: string, ask: number): Promise<string> {
  const suffix = `:${ask}`;
  return first.length + suffix.length <= 128 ? first + suffix : `${await sha256(first)}${suffix}`;
}
