// A chain with votes against the fixed vector, and what is forged of it: node:crypto alone.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { chainHolds } from "./chain.mjs";

const { keys, chain } = JSON.parse(readFileSync(new URL("../../contract/vectors/votes.json", import.meta.url)));

/** The chain as the owner of the database would write it anew, with these entries. */
function rewritten(change) {
  const entries = chain.entries.map(({ entry }) => JSON.parse(Buffer.from(entry, "base64")));
  change(entries);
  let previous = createHash("sha256").update(`relaytrace-chain-v1:${chain.request_id}`).digest();
  const links = entries.map((entry) => {
    const bytes = Buffer.from(JSON.stringify(entry));
    previous = createHash("sha256").update(previous).update(bytes).digest();
    return { entry: bytes.toString("base64"), hash: `sha256:${previous.toString("hex")}` };
  });
  return { ...chain, entries: links };
}

test("the chain holds, also written anew as it was", () => {
  assert.equal(chainHolds(chain, keys), true);
  assert.equal(chainHolds(rewritten(() => {}), keys), true);
});

const forgeries = {
  "a vote less": ([, , , decided]) => { decided.votes.shift(); },
  "no votes": ([, , , decided]) => { delete decided.votes; },
  "a vote twice": ([, , , decided]) => { decided.votes[1] = decided.votes[0]; },
  "another voter": ([, , , decided]) => { decided.votes[0].actor.id = "eve"; },
  "somebody else acted for": ([, , , decided]) => { decided.votes[1].actor.for.id = "eve"; },
  "nobody acted for": ([, , , decided]) => { delete decided.votes[1].actor.for; },
  "another reason of a vote": ([, , , decided]) => { decided.votes[0].reason = "another"; },
  "a vote on another action": ([, , , decided]) => { decided.action_digest = `sha256:${"0".repeat(64)}`; },
  "another decision as the last vote": ([, , , decided]) => { decided.votes[2].actor.id = "eve"; },
  "a voted entry's voter": ([, voted]) => { voted.actor.id = "eve"; },
  "a voted entry without attestation": ([, voted]) => { delete voted.attestation; },
  "a decision's attestation for a vote": ([, voted, , decided]) => { voted.attestation = decided.attestation; },
};
for (const [what, forge] of Object.entries(forgeries)) {
  test(`${what} is refused`, () => assert.equal(chainHolds(rewritten(forge), keys), false));
}
