/** Verifies that a response is the relay's own answer to one request (RFC 9421, RFC 9530; contract, "Signed responses"). */

import type { webcrypto } from "node:crypto";
import { Unverified, WrongClock, WrongDeployment, WrongSecret } from "./errors.js";

const LABEL = "relaytrace";
const TAG = "relaytrace-response";
const COMPONENTS = ['"@status"', '"content-type"', '"content-digest"', '"@method";req', '"relaytrace-nonce";req'];
/** How far the two clocks may be apart, in seconds. */
const LEEWAY_SECONDS = 30;
/** Longest life of a signature, in seconds. */
const LIFETIME_SECONDS = 60;

/** A response as it came. */
export interface Received {
  status: number;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
}

/** The request, and the key that must have signed the response. */
export interface Expected {
  method: string;
  nonce: string;
  keyId: string;
  secret: webcrypto.CryptoKey;
  /** Seconds since the epoch. */
  now: number;
}

/** The key that verifies signatures, from the `response_secret` of the agent's key. */
export function importSecret(secret: Uint8Array<ArrayBuffer>): Promise<webcrypto.CryptoKey> {
  return crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
}

/**
 * Resolves if `received` is the answer to the request.
 *
 * @throws {Unverified} or, where the signature says more: {@link WrongSecret}, {@link WrongClock},
 *   {@link WrongDeployment}.
 */
export async function verify(expected: Expected, { status, headers, body }: Received): Promise<void> {
  const header = (name: string) => {
    const value = headers.get(name);
    if (value === null) throw new Unverified(`the answer (${status}) has no ${name}: it is not signed`);
    return value.trim();
  };
  const contentDigest = header("content-digest");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  if (base64(digest) !== bytesOf(member(contentDigest, "sha-256"))) {
    throw new Unverified("the answer's body is not the one that was signed: something between changed it");
  }

  const input = member(header("signature-input"), LABEL);
  const [, list, rest] = /^\(([^()]*)\)((?:;[a-z]+=(?:\d{1,15}|"[^"\\]*"))*)$/.exec(input ?? "") ?? [];
  const covered = list?.split(" ") ?? [];
  if (covered.length !== COMPONENTS.length || COMPONENTS.some((component) => !covered.includes(component))) {
    throw new Unverified("the answer's signature covers something else than it must");
  }
  const parameters = new Map((rest ?? "").split(";").map((pair) => pair.split(/=(.*)/s) as [string, string]));
  const text = (name: string) => /^"(.*)"$/s.exec(parameters.get(name) ?? "")?.[1];
  const created = Number(parameters.get("created") ?? Number.NaN);
  const expires = Number(parameters.get("expires") ?? Number.NaN);
  if (text("alg") !== "hmac-sha256" || text("tag") !== TAG) {
    throw new Unverified("the answer's signature is of another kind");
  }
  if (!(expires >= created && expires - created <= LIFETIME_SECONDS)) {
    throw new Unverified("the answer's signature does not say when it ends");
  }
  if (text("keyid") !== expected.keyId) {
    throw new WrongDeployment(
      `the answer is signed for the key ${text("keyid")}, not for ${expected.keyId}: it is not from the relay that issued this key: check RELAYTRACE_URL`,
    );
  }

  const values: Record<string, string> = {
    '"@status"': String(status),
    '"content-type"': header("content-type"),
    '"content-digest"': contentDigest,
    '"@method";req': expected.method,
    '"relaytrace-nonce";req': expected.nonce,
  };
  const base = [...covered.map((name) => `${name}: ${values[name]}`), `"@signature-params": ${input}`].join("\n");
  const signature = bytesOf(member(header("signature"), LABEL));
  const isSigned = await crypto.subtle.verify(
    "HMAC",
    expected.secret,
    decode(signature),
    new TextEncoder().encode(base),
  );
  if (!isSigned) {
    throw new WrongSecret(
      "the answer's signature is not made with this response secret: RELAYTRACE_RESPONSE_SECRET must be the " +
        "response_secret of this very key, from the deployment at RELAYTRACE_URL; or the answer was changed on its way",
    );
  }
  // Last: what a genuine signature over a fresh nonce says of the time is the relay's clock.
  if (created > expected.now + LEEWAY_SECONDS || expected.now > expires + LEEWAY_SECONDS) {
    throw new WrongClock(expected.now - created);
  }
}

/** The one member of a structured dictionary (RFC 9651), as it is written; undefined where it is missing or repeated. */
function member(dictionary: string, name: string): string | undefined {
  const found = [...dictionary.matchAll(/(?:^|,[ \t]*)([a-z*][a-z0-9_.*-]*)=((?:"(?:[^"\\]|\\.)*"|[^",])*)/g)];
  const [only, ...more] = found.filter(([, key]) => key === name);
  return more.length === 0 ? only?.[2]?.trim() : undefined;
}

/** The base64 text of a byte sequence; empty where it is none. */
function bytesOf(item: string | undefined): string {
  return /^:([A-Za-z0-9+/]*={0,2}):$/.exec(item ?? "")?.[1] ?? "";
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(text, "base64"));
}
