// Checks the decisions and votes of an exported chain offline: hashes, attestations and who counts, with node:crypto alone.
//
//   node chain.mjs < chain.json      exits 0: verified, 1: refused, 2: not understood
//
// chain.json: {"chain": <the export>, "jwks": {"keys": […]}}

import { createHash, createPublicKey, verify } from "node:crypto";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const UNSIGNED = ["seq", "at", "epoch", "votes", "attestation"];

// RFC 8785: the order of members is that of UTF-16 code units, and the rest is what JSON.stringify does.
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

/** The bytes that are signed of an entry. */
export function signed(entry) {
  const members = Object.entries(entry).filter(([name]) => !UNSIGNED.includes(name));
  return Buffer.from(canonical({ ...Object.fromEntries(members), typ: "relaytrace-attestation-v1" }));
}

/** Whether a listed key that may speak for the entry's cause has signed it. */
export function isAttested(entry, keys) {
  const key = keys.find(({ kid, causes }) => causes && kid === entry.attestation?.kid);
  if (!key?.causes.includes(entry.cause)) return false;
  if (entry.kind === "voted" && entry.cause !== "operator") return false;
  const { kty, crv, x } = key;
  const signature = Buffer.from(entry.attestation.sig, "base64url");
  return verify(null, signed(entry), createPublicKey({ key: { kty, crv, x }, format: "jwk" }), signature);
}

const alike = (some, others, members) => members.every((name) => canonical(some[name] ?? null) === canonical(others[name] ?? null));

/** Whether the votes that a `decided` entry lists are attested, enough, and of different persons. */
export function votesHold(decided, required, keys) {
  const votes = decided.votes ?? [];
  const isApproval = decided.outcome === "approved";
  if (isApproval && (decided.votes ? votes.length : 1) < required) return false;
  const before = isApproval ? votes.slice(0, -1) : votes;
  if (isApproval && decided.votes && !alike(votes.at(-1), decided, ["seq", "at", "actor", "reason"])) return false;
  const { request_id, action_digest } = decided;
  const alikeInAll = { request_id, kind: "voted", cause: "operator", decision: "approve", action_digest };
  if (!before.every((vote) => isAttested({ ...vote, ...alikeInAll }, keys))) return false;
  const persons = votes.flatMap(({ actor }) => [actor.id, actor.for?.id]).filter((id) => id !== undefined);
  return new Set(persons).size === persons.length;
}

/** Whether the chain's hashes follow each other, and each of its decisions and votes is attested. */
export function chainHolds({ request_id, entries }, keys) {
  const hash = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
  let previous = hash(Buffer.from(`relaytrace-chain-v1:${request_id}`));
  let required = 1;
  for (const link of entries) {
    const bytes = Buffer.from(link.entry, "base64");
    previous = hash(previous, bytes);
    if (link.hash !== `sha256:${previous.toString("hex")}`) return false;
    const entry = JSON.parse(bytes);
    if (entry.kind === "submitted") required = entry.approvals ?? 1;
    if (["voted", "decided"].includes(entry.kind) && !isAttested(entry, keys)) return false;
    if (entry.kind === "decided" && !votesHold(entry, required, keys)) return false;
  }
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { chain, jwks } = JSON.parse(await text(process.stdin));
    process.exit(chainHolds(chain, jwks.keys) ? 0 : 1);
  } catch (fault) {
    console.error(fault);
    process.exit(2);
  }
}
