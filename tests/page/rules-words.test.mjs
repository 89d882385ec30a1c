// Rules in words, their text and its places, and two drafts put together: without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { write } from "../../functions/decide/page/json.js";
import { isSameDocument, putOnTop, ruleChanges } from "../../functions/decide/page/rules-merge.js";
import { createModel } from "../../functions/decide/page/rules-model.js";
import { lineOf, placeOf, readDocument } from "../../functions/decide/page/rules-places.js";
import { ruleWords } from "../../functions/decide/page/rules-words.js";

const rule = (name, more = {}) => ({ name, mode: "enforce", match: {}, then: { ask: {} }, ...more });

test("a rule is one sentence", () => {
  const said = (match, then) => ruleWords(rule("x", { match, then }));
  for (const [match, then, words] of [
    [{}, { ask: {} }, "When any agent asks for anything: ask every operator."],
    [{ agents: ["billing"], action_types: ["refund.create"], arguments: { "/amount": { lte: 50 }, "/currency": { in: ["EUR", "USD"] } } }, { decide: "approve", reason: "small", at_most: { count: 5, per_seconds: 3600 } },
      "When billing asks for refund.create and amount is at most 50 and currency is EUR or USD: approve (small), at most 5 times in 1 hour."],
    [{ action_types: ["deploy.*"], priorities: ["P1", "P2"], not: { arguments: { "/env": { equals: "test" } } } }, { ask: { groups: ["ops"], approvals: 2, respond_within_seconds: 900, on_timeout: "auto_reject" } },
      "When any agent asks for deploy.* as P1 or P2, unless env is test: ask ops, 2 have to approve, answer within 15 minutes, reject when time is over."],
    [{ on_behalf_of: "absent", arguments: { "/a~1b/0": { exists: false }, "": { length_lte: 3 } } }, { decide: "reject", reason: "no" },
      "When any agent asks for anything on nobody’s behalf and a/b › 0 is not there and the arguments is at most 3 long: reject (no)."],
    [{ agents: ["a", "b", "c", "d", "e"] }, { ask: { escalate: { after_percent: 50, groups: ["night"] } } }, "When a, b, c or 2 others asks for anything: ask every operator, after 50 % of the time also ask night."],
  ]) assert.equal(said(match, then), words);
});

test("what is no rule has words, too, whatever it is", () => {
  for (const odd of [null, 5, "text", [], {}, { match: 7, then: [] }, { match: { agents: {}, arguments: { "/a": 5, "/b": { like: {} } }, not: 3 }, then: { decide: {}, at_most: 2 } }, { then: { ask: { groups: "x", escalate: {}, respond_within_seconds: "soon" } } }]) {
    assert.equal(typeof ruleWords(odd), "string");
  }
});

test("a document is the same only where its version and its time are", () => {
  const document = { version: 3, created_at: "2026-11-27T10:00:00.000Z", rules: [rule("a")], applied: { a: 1 } };
  assert.ok(isSameDocument(document, { ...document, applied: { a: 2 } }));
  assert.ok(!isSameDocument(document, { ...document, version: 4 }));
  assert.ok(!isSameDocument(document, { ...document, created_at: "2026-11-27T11:00:00.000Z" }));
  assert.ok(!isSameDocument(document, null));
  assert.ok(isSameDocument({ version: 0, rules: [] }, { version: 0, created_at: null, rules: [] }));
  const model = createModel();
  model.load(document);
  model.refresh({ ...document, created_at: "2026-11-27T11:00:00.000Z", applied: { a: 9 } });
  assert.deepEqual(model.base.applied, { a: 1 }, "the counts of another document");
  model.refresh({ ...document, applied: { a: 2 } });
  assert.deepEqual(model.base.applied, { a: 2 });
});

test("text is read with its numbers as they are written, and every part has its line", () => {
  const text = '[\n  {"name": "a~/b",\n   "match": {"arguments": {"/amount": {\n     "lte": 50.00}}}}\n]';
  const { value, places } = readDocument(text);
  assert.equal(write(value), '[{"name":"a~/b","match":{"arguments":{"/amount":{"lte":50.00}}}}]');
  const line = (pointer) => lineOf(text, placeOf(places, pointer));
  assert.deepEqual(["", "/0", "/0/name", "/0/match/arguments/~1amount", "/0/match/arguments/~1amount/lte", "/0/then/reason", "/7"].map(line), [1, 2, 2, 3, 4, 2, 1]);
});

test("text that cannot be read says where and what is expected", () => {
  const said = (text) => { const { words, offset } = readDocument(text); return `${lineOf(text, offset)}: ${words}`; };
  for (const [text, words] of [
    ["", /^1: The text ends here: a value is expected/], ["[\n1,\n]", /^3: a value is expected/], ['{"a": 1\n"b": 2}', /^2: a comma or } is expected/], ['{"a" 1}', /^1: a colon/],
    ["{a: 1}", /^1: a name in "quotes"/], ['[1\n', /^2: The text ends here: a comma or ]/], ["[1] x", /nothing more/], ['{"a": 1,\n"a": 2}', /^2: the name "a" is there twice/], ["[01]", /a comma or ]/], ['["\n"]', /a value is expected/],
    ["[".repeat(40), /nested more than 32/],
  ]) assert.match(said(text), words);
});

test("a long document is read in time that grows with it only", () => {
  const long = write(Array.from({ length: 500 }, (_, n) => rule(`r${n}`, { match: { arguments: { "/text": { equals: "x".repeat(300) } } } })));
  const { value, places } = readDocument(long);
  assert.equal(value.length, 500);
  assert.ok(placeOf(places, "/499/name") > placeOf(places, "/498/name"));
});

const names = (rules) => rules.map(({ name, mode }) => `${name}${mode === "enforce" ? "" : `:${mode}`}`).join(" ");
const list = (text) => text.split(" ").filter(Boolean).map((one) => { const [name, mode = "enforce"] = one.split(":"); return rule(name, { mode }); });

test("one's own changes go on top of another's", () => {
  for (const [base, mine, theirs, result, both] of [
    ["a b c", "a b c", "a b:off c d", "a b:off c d", []],
    ["a b c", "a:off b c", "a b c d", "a:off b c d", []],
    ["a b c", "a b new c", "x a b c", "x a b new c", []],
    ["a b c", "a c", "a b c d", "a c d", []],
    ["a b c", "c a b", "a b:off c d", "c d a b:off", []],
    ["a b c", "a:off b c", "a:shadow b c", "a:off b c", ["a"]],
    ["a b c", "a c", "a b:off c", "a c", ["b"]],
    ["a b c", "a b:off c", "a c", "a b:off c", ["b"]],
    ["a b", "a:off b", "a:off b", "a:off b", []],
    ["", "mine", "theirs", "mine theirs", []],
    ["a", "", "a b", "b", []],
  ]) {
    const merged = putOnTop(list(base), list(mine), list(theirs));
    assert.deepEqual([names(merged.rules), merged.both], [result, both], `${base} | ${mine} | ${theirs}`);
  }
});

test("what differs: changed, added, removed, moved", () => {
  const { added, removed, changed, moved } = ruleChanges(list("a b c"), list("c b:off d"));
  assert.deepEqual([names(added), names(removed), changed.map(({ name }) => name), moved], ["d", "a", ["b"], true]);
});

test("faults follow their rule when it is moved, and go with what is changed", () => {
  const model = createModel();
  model.load({ version: 1, rules: list("a b c") });
  model.tell([{ pointer: "/rules/1/then/reason", detail: "is required" }, { pointer: "/rules/1/match/arguments/~1a/lt", detail: "must be a number" }, { pointer: "/note", detail: "too long" }], model.entries);
  const b = model.entries[1].key;
  model.move(b, -1);
  assert.deepEqual(model.entries[0].faults.map(({ path }) => path.join(" ")), ["then reason", "match arguments /a lt"]);
  assert.deepEqual(model.faults.map(({ detail }) => detail), ["too long"]);
  model.set(b, rule("b", { then: { decide: "reject", reason: "x" } }), ["then"]);
  assert.deepEqual(model.entries[0].faults.map(({ path }) => path.join(" ")), ["match arguments /a lt"]);
});

test("an edited text leaves the other rules what they are, and a deleted rule comes back to its place", () => {
  const model = createModel();
  model.load({ version: 1, rules: list("a b c") });
  const keys = model.entries.map(({ key }) => key);
  model.setAll(list("a b2 c d"));
  assert.deepEqual(model.entries.map(({ key }) => keys.indexOf(key)), [0, -1, 2, -1]);
  model.load({ version: 1, rules: list("a b c") });
  const again = model.entries.map(({ key }) => key);
  model.setAll(list("a renamed c"));
  assert.equal(model.entries[1].key, again[1]);
  model.remove(again[0]);
  assert.equal(names(model.rules()), "renamed c");
  model.restore();
  assert.equal(names(model.rules()), "a renamed c");
  model.add(rule("a"), 1);
  assert.equal(names(model.rules()), "a a 2 renamed c");
});
