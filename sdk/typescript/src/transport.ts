/** One call: sent, verified, and sent again while that may help (contract, "Errors"). */

import type { webcrypto } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type About, differenceOf, differenceOfProblem } from "./about.js";
import type { Credentials } from "./credentials.js";
import {
  ContractBroken,
  KeyReused,
  NoAnswer,
  OtherAnswer,
  type Problem,
  Refused,
  RelayError,
  TooSlow,
  Unavailable,
  Unreachable,
  Unverified,
  WrongClock,
  WrongKey,
  WrongUrl,
  wordsOf,
} from "./errors.js";
import { importSecret, type Received, verify } from "./signature.js";

/** Longest body that is read; the contract keeps answers under 1 MB. */
const MAX_BODY_BYTES = 4 << 20;
/** What is wrong so often will not be right by trying again. */
const HOPELESS_TRIES = 3;
/** How long an address is tried that has never answered: long enough for a relay that is starting. */
const FIRST_CONTACT_SECONDS = 10;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
const LEEWAY_SECONDS = 30;
const VERSION = "0.1.0";

export interface TransportOptions {
  url: string;
  credentials: Credentials;
  /** Undefined where the caller said that answers are not to be verified. */
  secret: Uint8Array<ArrayBuffer> | undefined;
  /** Limit for one try, in seconds; what a poll waits is not counted. */
  trySeconds: number;
  /** Limit for all tries of a call, in seconds. */
  patienceSeconds: number;
  fetch: typeof fetch;
}

/** What is asked. */
export interface Call {
  method: "GET" | "POST";
  /** Below the base address, with its query. */
  path: string;
  body?: unknown;
  /** How long the relay may wait before it answers, in seconds. */
  waitSeconds?: number;
  about: About;
  signal?: AbortSignal | undefined;
}

/** The result of one try that has no answer. */
class Failed {
  constructor(
    readonly error: RelayError,
    /** `again`: until patience ends. `hopeless`: a few times. `final`: settled. */
    readonly then: "again" | "hopeless" | "final",
    readonly afterMs = 0,
  ) {}
}

export class Transport {
  readonly #options: TransportOptions;
  readonly #base: string;
  #secret: Promise<webcrypto.CryptoKey> | undefined;
  #wasAnswered = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#base = options.url.replace(/\/+$/, "");
  }

  /** @throws {RelayError} and, where `signal` is aborted, its reason. */
  async call<T>(call: Call): Promise<T> {
    const { signal } = call;
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    const begun = performance.now();
    let hopeless = 0;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      signal?.throwIfAborted();
      const result = await this.#try<T>(call, body);
      if (!(result instanceof Failed)) return result.answer;
      signal?.throwIfAborted();
      if (result.then === "hopeless") hopeless += 1;
      const pause = Math.max(pauseMs * (0.5 + Math.random() / 2), result.afterMs);
      const { patienceSeconds } = this.#options;
      const patience = this.#wasAnswered ? patienceSeconds : Math.min(patienceSeconds, FIRST_CONTACT_SECONDS);
      const isLate = performance.now() + pause > begun + (patience + (call.waitSeconds ?? 0)) * 1000;
      const isOver = result.then === "final" || hopeless >= HOPELESS_TRIES || isLate;
      if (isOver) throw result.error;
      await sleep(pause, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
    }
  }

  /** Something that anyone may read; it is not signed. */
  async open<T>(path: string): Promise<T> {
    const received = await this.#exchange("GET", path, {}, undefined, this.#options.trySeconds, undefined);
    if (received instanceof Failed) throw received.error;
    if (received.status !== 200) throw new WrongUrl(this.#notTheApi(received));
    return json<T>(received) ?? fail(new WrongUrl(this.#notTheApi(received)));
  }

  async #try<T>(
    { method, path, waitSeconds = 0, about, signal }: Call,
    body?: string,
  ): Promise<{ answer: T } | Failed> {
    const { credentials, trySeconds } = this.#options;
    const nonce = crypto.randomUUID().replaceAll("-", "");
    const headers: Record<string, string> = {
      authorization: `Bearer ${await credentials.token(seconds())}`,
      "relaytrace-nonce": nonce,
      "user-agent": `relaytrace-sdk-typescript/${VERSION}`,
    };
    if (body !== undefined) headers["content-type"] = "application/json";
    const received = await this.#exchange(method, path, headers, body, trySeconds + waitSeconds, signal);
    if (received instanceof Failed) return received;
    const unverified = await this.#verify(received, method, nonce);
    if (unverified) return unverified;
    this.#wasAnswered = true;
    const answer = json<T>(received);
    const isRight = received.status >= 200 && received.status < 300;
    if (answer === undefined) return this.#unreadable(received, `${method} ${path}`);
    if (!isRight) return refused(answer as Problem, received.status, path, about);
    const difference = differenceOf(answer, about);
    return difference === undefined ? { answer } : another(difference);
  }

  /** Undefined where the answer counts. */
  async #verify(received: Received, method: string, nonce: string): Promise<Failed | undefined> {
    const { credentials, secret } = this.#options;
    const isSigned = received.headers.has("signature-input");
    if (received.status === 401 && !isSigned) return new Failed(this.#unauthenticated(received.headers), "hopeless");
    if (secret === undefined) return undefined;
    if (!isSigned) return this.#unsigned(received);
    this.#secret ??= importSecret(secret);
    try {
      await verify({ method, nonce, keyId: credentials.keyId, secret: await this.#secret, now: seconds() }, received);
      return undefined;
    } catch (error) {
      return new Failed(error instanceof RelayError ? error : new NoAnswer(String(error)), "hopeless");
    }
  }

  /** Sends a request and reads the whole answer. */
  async #exchange(
    method: string,
    path: string,
    headers: Record<string, string>,
    body: string | undefined,
    limitSeconds: number,
    signal: AbortSignal | undefined,
  ): Promise<Received | Failed> {
    const limit = AbortSignal.timeout(limitSeconds * 1000);
    try {
      const response = await this.#options.fetch(this.#base + path, {
        method,
        headers,
        body: body ?? null,
        // An answer is the relay's own or none.
        redirect: "manual",
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
      return { status: response.status, headers: response.headers, body: await bytesOf(response) };
    } catch (error) {
      if (error instanceof RelayError) return new Failed(error, "again");
      if (limit.aborted) {
        const slow = `${this.#base} did not answer within ${limitSeconds} s. Nothing ran; ask again with the same key`;
        return new Failed(new TooSlow(slow), "again");
      }
      return this.#lost(error);
    }
  }

  #lost(error: unknown): Failed {
    const cause = (error as Error).cause as (Error & { code?: string }) | undefined;
    const what = cause?.message || cause?.code || (error as Error).message;
    if (cause?.code === "ENOTFOUND") {
      return new Failed(
        new WrongUrl(`the host of ${this.#base} is not known (${what}): check RELAYTRACE_URL`),
        "hopeless",
      );
    }
    if (/CERT|TLS|SSL|UNABLE_TO|EPROTO/.test(cause?.code ?? "")) {
      const advice = "check that RELAYTRACE_URL begins with the right scheme and names the host of the certificate";
      return new Failed(new WrongUrl(`no trusted connection to ${this.#base} (${what}): ${advice}`), "hopeless");
    }
    const advice = "Nothing ran; check RELAYTRACE_URL and that the relay runs, and ask again with the same key";
    return new Failed(new Unreachable(`${this.#base} cannot be reached (${what}). ${advice}`), "again");
  }

  #unsigned(received: Received): Failed {
    const { status, headers } = received;
    if (status === 429 || status >= 500) {
      const error = new Unavailable(`${this.#base} answers ${status}, unsigned: the relay is not available behind it`);
      return new Failed(error, "again", 1000 * (Number(headers.get("retry-after")) || 0));
    }
    const isElsewhere = status === 404 || status === 405 || (status >= 300 && status < 400);
    if (!isElsewhere && /json/.test(headers.get("content-type") ?? "")) {
      const error = new Unverified(`the answer (${status}) is not signed: a proxy wrote it, or this is no relay`);
      return new Failed(error, "hopeless");
    }
    return new Failed(new WrongUrl(this.#notTheApi(received)), "hopeless");
  }

  #notTheApi({ status, headers }: Received): string {
    const location = headers.get("location");
    const where = location ? `, and sends elsewhere (${location})` : "";
    const kind = headers.get("content-type") ?? "no content type";
    return `${this.#base} answers ${status} (${kind}) without the relay's signature${where}: RELAYTRACE_URL must be the address of the relay itself`;
  }

  #unreadable(received: Received, what: string): Failed {
    if (this.#options.secret === undefined) return this.#unsigned(received);
    return new Failed(new ContractBroken(`${what}: the answer (${received.status}) is not valid JSON`), "final");
  }

  /** Why a token was refused, as far as this can be told. A wrong clock is the usual reason. */
  #unauthenticated(headers: Headers): RelayError {
    const theirs = Date.parse(headers.get("date") ?? "") / 1000;
    const ahead = Math.round(seconds() - theirs);
    if (Math.abs(ahead) > LEEWAY_SECONDS) return new WrongClock(ahead);
    return new WrongKey(
      `${this.#base} does not accept the key ${this.#options.credentials.keyId}: it is unknown there, expired or ` +
        "revoked, or its agent is disabled. A key belongs to one deployment: check that RELAYTRACE_URL names the same one",
    );
  }
}

/** A verified problem document. */
function refused(problem: Problem, status: number, path: string, about: About): Failed {
  if (typeof problem.code !== "string")
    return new Failed(new ContractBroken(`${path}: ${status} without a problem`), "final");
  const difference = differenceOfProblem(problem, path, about);
  if (difference !== undefined) return another(difference);
  const hasNoRoute = problem.code === "not-found" || problem.code === "method-not-allowed";
  if (hasNoRoute && about.requestId === undefined) {
    const what = `the relay has nothing at ${problem.instance}: RELAYTRACE_URL must be its address, without another path`;
    return new Failed(new WrongUrl(what), "final");
  }
  if (problem.retryable) {
    const error =
      problem.code === "frozen" ? new Refused(problem) : new Unavailable(`the relay says ${wordsOf(problem)}`);
    return new Failed(error, "again", problem.retry_after_ms ?? 0);
  }
  const Kind = problem.code === "idempotency-key-reused" ? KeyReused : Refused;
  return new Failed(new Kind(problem), "final");
}

function another(difference: string): Failed {
  const advice = "something between mixes up answers, so this one does not count";
  return new Failed(new OtherAnswer(`the answer is about another request: ${difference}; ${advice}`), "hopeless");
}

async function bytesOf(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength;
    if (length > MAX_BODY_BYTES) throw new Unreachable(`an answer of more than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Uint8Array.from(Buffer.concat(chunks));
}

function json<T>({ body }: Received): T | undefined {
  try {
    const value = JSON.parse(Buffer.from(body).toString());
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function fail(error: Error): never {
  throw error;
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
