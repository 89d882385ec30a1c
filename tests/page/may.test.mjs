// What a person may do, from what the API says of a request: without a browser and without a stack.

import assert from "node:assert/strict";
import { test } from "node:test";
import { actingFor, claimedByOther, mayMyself, stopOf, whyNotAtOnce } from "../../functions/decide/page/may.js";

const by = (id, whom) => ({ voted_by: { kind: "operator", id, ...(whom && { for: { id: whom } }) } });
const request = (changes = {}) => ({ status: "pending", approvals: { required: 1, given: 0 }, votes: [], you: { may: ["approve", "reject", "edit"], why_not: null, may_act_for: [] }, ...changes });
const me = { me: "ann", for: "" };

test("what the API admits is offered, what it does not is held back with its reason", () => {
  assert.deepEqual(["approve", "reject", "edit"].map((answer) => stopOf(request(), answer, me)), ["", "", ""]);
  const own = request({ you: { may: ["reject"], why_not: "own-request" } });
  assert.match(stopOf(own, "approve", me), /on your behalf/);
  assert.equal(stopOf(own, "reject", me), "");
  assert.match(stopOf(request({ you: { may: ["reject"], why_not: "frozen" } }), "edit", me), /stopped by an administrator/);
  assert.match(stopOf(request({ you: { may: [], why_not: "not-assigned" } }), "reject", me), /assigned to others/);
  assert.equal(stopOf(request({ you: { may: [], why_not: "of-a-newer-release" } }), "reject", me), "You may not decide this request.");
  assert.equal(stopOf(request({ you: { may: ["reject"], why_not: "of-a-newer-release" } }), "approve", me), "You may not approve this request.");
  assert.equal(stopOf(request({ you: undefined }), "approve", me), "", "an older release says nothing");
});

test("nobody counts twice, by themselves or through another; a rejection stays possible", () => {
  const several = (...votes) => request({ approvals: { required: 3, given: votes.length }, votes });
  for (const [votes, as] of [
    [[by("ann")], me], [[by("ann")], { me: "ann", for: "ben" }], [[by("ben")], { me: "ann", for: "ben" }],
    [[by("cleo", "ann")], me], [[by("ann", "ben")], me], [[by("cleo", "ben")], { me: "ann", for: "ben" }],
  ]) {
    assert.match(stopOf(several(...votes), "approve", as), /has approved it already|have approved it already/, JSON.stringify([votes, as]));
    assert.equal(stopOf(several(...votes), "reject", as), "");
  }
  assert.equal(stopOf(several(by("cleo")), "approve", me), "");
  for (const answer of ["edit", "respond"]) assert.match(stopOf(several(), answer, me), /It needs 3 approvals/);
});

test("by a delegation a request of others can be answered, and only by one", () => {
  const theirs = request({ you: { may: [], why_not: "not-assigned", may_act_for: [{ id: "ben", name: "Ben" }] } });
  assert.equal(mayMyself(theirs), false);
  assert.deepEqual(actingFor(theirs), [{ id: "ben", name: "Ben" }]);
  assert.equal(stopOf(theirs, "approve", { me: "ann", for: "ben" }), "");
  assert.notEqual(stopOf(theirs, "approve", me), "");
  assert.equal(mayMyself(request()), true);
  assert.deepEqual(actingFor(request({ you: undefined })), []);
});

test("a claim counts while it lasts, and one's own is none of another's", () => {
  const until = "2026-11-27T12:05:00Z";
  const claimed = request({ claimed_by: { kind: "operator", id: "ben", name: "Ben" }, claimed_until: until });
  const at = Date.parse(until);
  assert.deepEqual(claimedByOther(claimed, "ann", at - 1), { id: "ben", name: "Ben", until });
  assert.equal(claimedByOther(claimed, "ann", at), null);
  assert.equal(claimedByOther(claimed, "ben", at - 1), null);
  assert.equal(claimedByOther(request(), "ann", at), null);
});

test("several are approved at once where they are of one kind and none is a P1", () => {
  const of = (action_type, priority = "P2") => ({ action_type, priority });
  assert.equal(whyNotAtOnce([of("mail.send"), of("mail.send", "P3")]), "");
  assert.match(whyNotAtOnce([of("mail.send"), of("refund.create")]), /2 kinds/);
  assert.match(whyNotAtOnce([of("mail.send"), of("mail.send", "P1")]), /1 of the 2 is one/);
});
