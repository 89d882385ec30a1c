/** Receipts: signed statements of decisions, verified with the deployment's public keys (contract, "Receipts"). */

import type { webcrypto } from "node:crypto";
import { WrongDeployment, WrongReceipt } from "./errors.js";
import { type Json, sameJson } from "./json.js";
import type { Actor, Decision, Receipt, ReceiptKeys } from "./model.js";

/**
 * The claims of a receipt: signed by one of `keys`, and about this very decision. Needs no connection.
 *
 * @throws {WrongReceipt} with the fault, {@link WrongDeployment} where another deployment signed it.
 */
export async function verifyReceipt(decision: Decision, keys: ReceiptKeys, deployment?: string): Promise<Receipt> {
  const claims = await verifiedClaims(decision.receipt, keys);
  if (deployment !== undefined && claims.iss !== deployment) {
    throw new WrongDeployment(`the receipt is from the deployment ${claims.iss}, not from ${deployment}`);
  }
  const stated: [string, unknown, unknown][] = [
    ["sub", claims.sub, decision.request_id],
    ["client_request_key", claims.client_request_key, decision.client_request_key],
    ["outcome", claims.outcome, decision.outcome],
    ["cause", claims.cause, decision.cause],
    ["decided_by", actor(claims.decided_by), actor(decision.decided_by)],
    ["action_digest", claims.action_digest, decision.action_digest],
    ["chain_head", claims.chain_head, decision.chain.head],
    ["chain_length", claims.chain_length, decision.chain.length],
  ];
  for (const [name, claim, expected] of stated) {
    if (!sameJson((claim ?? null) as Json, expected as Json)) {
      throw new WrongReceipt(`the receipt states another decision: its ${name} is not that of ${decision.request_id}`);
    }
  }
  checkVotes(claims);
  return claims;
}

/** Nobody counts twice, and of an approval the last vote is the decision. */
function checkVotes({ votes, outcome, decided_by }: Receipt): void {
  if (votes === undefined || votes.length === 0) return;
  if (new Set(votes.map(({ voted_by }) => voted_by.id)).size !== votes.length) {
    throw new WrongReceipt("the receipt lists somebody twice among its voters");
  }
  if (outcome === "approved" && !sameJson(actor(votes.at(-1)?.voted_by) as Json, actor(decided_by) as Json)) {
    throw new WrongReceipt("the receipt's last vote is not its decision");
  }
}

/** Without a name is the same as with the name null. */
function actor(of: Actor | undefined): unknown {
  return { ...of, name: of?.name ?? null };
}

async function verifiedClaims(receipt: string, { keys }: ReceiptKeys): Promise<Receipt> {
  const [header, payload, signature, ...more] = receipt.split(".");
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) {
    throw new WrongReceipt("the receipt is no compact JWS");
  }
  const { alg, typ, kid, crit } = parsed(header);
  if (alg !== "EdDSA" || typ !== "relaytrace-receipt+jwt" || crit !== undefined) {
    throw new WrongReceipt("the receipt is a JWS of another kind");
  }
  // Keys of another use, such as attestations, say nothing by a receipt.
  const jwk = keys.find((key) => key.kid === kid && (key.use ?? "sig") === "sig");
  if (jwk === undefined) {
    throw new WrongDeployment(
      `the receipt is signed with ${kid}, which is not among these keys: they are another deployment's, or older`,
    );
  }
  const { kty, crv, x } = jwk;
  const key = await crypto.subtle
    .importKey("jwk", { kty, crv, x } as webcrypto.JsonWebKey, { name: "Ed25519" }, false, ["verify"])
    .catch(() => {
      throw new WrongReceipt("the receipt's key cannot be used");
    });
  const signed = new TextEncoder().encode(`${header}.${payload}`);
  if (!(await crypto.subtle.verify("Ed25519", key, Uint8Array.from(Buffer.from(signature, "base64url")), signed))) {
    throw new WrongReceipt("the receipt's signature is wrong");
  }
  return parsed(payload) as unknown as Receipt;
}

function parsed(part: string): Record<string, unknown> {
  try {
    return JSON.parse(Buffer.from(part, "base64url").toString());
  } catch {
    throw new WrongReceipt("the receipt is no compact JWS");
  }
}
