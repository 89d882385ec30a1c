// Verifies a signed response with the npm package `http-message-signatures`.
//
//   node verify.mjs < exchange.json      exits 0: verified, 1: refused, 2: not understood
//
// exchange.json: {"request": {"method", "url", "headers"},
//                 "response": {"status", "headers", "body_base64"}, "secret_base64"}

import { createHash } from "node:crypto";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { createVerifier, httpbis } from "http-message-signatures";

const TAG = "relaytrace-response";
const COMPONENTS = ['"@status"', '"content-type"', '"content-digest"', '"@method";req'];
/** How far the two clocks may be apart, in seconds: as far as the service's for tokens. */
const CLOCK_SKEW = 30;
const NONCE = '"relaytrace-nonce";req';

/** Whether the signature covers `components`, with our tag: what the library leaves to its callers. */
function covers(signatureInput, components) {
  const [, list, parameters] = /^relaytrace=\(([^)]*)\)([^,]*)$/.exec(signatureInput ?? "") ?? [];
  const covered = list?.split(" ") ?? [];
  return Boolean(parameters?.includes(`;tag="${TAG}"`)) && components.every((component) => covered.includes(component));
}

function digestOf(body) {
  return `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
}

/** Resolves to true if `response` was signed with the secret for this request and these bytes. */
export async function verify({ request, response, secret_base64 }) {
  const body = Buffer.from(response.body_base64, "base64");
  const headers = Object.fromEntries(
    Object.entries(response.headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const nonceSent = Object.keys(request.headers).some((name) => name.toLowerCase() === "relaytrace-nonce");
  if (!covers(headers["signature-input"], nonceSent ? [...COMPONENTS, NONCE] : COMPONENTS)) return false;
  if (headers["content-digest"] !== digestOf(body)) return false;
  const key = {
    algs: ["hmac-sha256"],
    verify: createVerifier(Buffer.from(secret_base64, "base64"), "hmac-sha256"),
  };
  const config = {
    keyLookup: async () => key,
    requiredParams: ["created", "expires", "keyid", "nonce", "alg", "tag"],
    tolerance: CLOCK_SKEW,
  };
  try {
    return (await httpbis.verifyMessage(config, { status: response.status, headers }, request)) === true;
  } catch {
    const difference = clockDifference(headers["signature-input"]);
    if (difference) console.error(difference);
    return false;
  }
}

/** What the signature says of the two clocks, where that is why it does not count. */
function clockDifference(signatureInput) {
  const created = Number(/;created=(\d{1,12})(?:;|$)/.exec(signatureInput ?? "")?.[1]);
  const ahead = Math.floor(Date.now() / 1000) - created;
  if (Number.isNaN(ahead) || (ahead >= -CLOCK_SKEW && ahead <= CLOCK_SKEW + 60)) return null;
  const side = ahead > 0 ? "ahead of" : "behind";
  return `this machine's clock is ${Math.abs(ahead)} s ${side} the time of the signature, and ${CLOCK_SKEW} s are allowed`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let verified;
  try {
    verified = await verify(JSON.parse(await text(process.stdin)));
  } catch (fault) {
    console.error(fault);
    process.exit(2);
  }
  process.exit(verified ? 0 : 1);
}
