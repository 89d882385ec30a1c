// What the page computes by itself: JSON without loss, fields from a schema, differences, digests. No browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { differences } from "../../functions/decide/page/diff.js";
import { canonical, digestOf } from "../../functions/decide/page/digest.js";
import { nearest, readFields } from "../../functions/decide/page/fields.js";
import { literals, numberFault, parseExact, pathOf, pointer, write } from "../../functions/decide/page/json.js";
import { fieldsOf } from "../../functions/decide/page/schema.js";

const vectors = JSON.parse(readFileSync(new URL("../../contract/vectors/action-digests.json", import.meta.url)));
/** Fields by their pointers, as [kind, text]. */
const flat = (field, at = "") => (field.kind === "object" ? Object.assign({}, ...field.members.map((m) => flat(m, `${at}/${m.name}`)))
  : field.kind === "array" ? Object.assign({ [at]: "array" }, ...field.items.map((m, n) => flat(m, `${at}/${n}`))) : { [at]: [field.kind, field.text] });
const REFUND = {
  type: "object", required: ["amount", "currency", "count"], additionalProperties: false,
  properties: {
    amount: { type: "string", maxLength: 12, title: "Amount" }, currency: { enum: ["EUR", "USD"] }, count: { type: "integer", minimum: 1 },
    rate: { type: "number" }, notify: { type: "boolean" }, note: { anyOf: [{ type: "string" }, { type: "null" }] },
    lines: { type: "array", items: { $ref: "#/$defs/line" } }, anything: {},
  },
  $defs: { line: { type: "object", required: ["sku"], properties: { sku: { type: "string" }, pieces: { type: ["integer", "null"] } } } },
};
const ASKED = '{"amount":"1240.00","currency":"EUR","count":2,"rate":1.50,"lines":[{"sku":"a","pieces":3},{"sku":"b"}],"anything":{"x":[1e3,[null]]}}';

test("digests are those of the contract's fixed examples, computed from text that is written again", async () => {
  assert.ok(vectors.length > 0);
  for (const { action, action_digest: digest } of vectors) {
    assert.equal(await digestOf(action), digest);
    assert.equal(await digestOf(parseExact(write(action, "  "), new Set(literals(action)))), digest);
  }
});

test("numbers are written as they were typed; what a program would read otherwise is refused", () => {
  for (const text of ['{"a":1.50,"b":1e3,"c":-0,"d":9007199254740991,"e":[0.1,100.000]}', "[]", "{}", '"\\u202e"']) assert.equal(write(parseExact(text)), text === '"\\u202e"' ? '"\u202e"' : text);
  assert.equal(canonical(parseExact("[1.50,1e3,-0]")), "[1.5,1000,0]");
  for (const good of ["0", "-1", "1.50", "0.1", "1E2", "100.00", "123456789.123456", "5e-324"]) assert.equal(numberFault(good), "", good);
  for (const bad of ["", "1,5", "01", "+1", ".5", "1.", "0x1", "1e400", "9007199254740993", "0.1234567890123456789", "NaN", "1 000"]) assert.notEqual(numberFault(bad), "", bad);
  assert.notEqual(numberFault("1.5", true), "");
  assert.equal(numberFault("1.0", true), "");
  assert.throws(() => parseExact('{"a":1,"\\u0061":2}'), /there twice/);
  assert.throws(() => parseExact("[9007199254740993]"), /not exact/);
  assert.equal(write(parseExact("[0.1234567890123456789]", new Set(["0.1234567890123456789"]))), "[0.1234567890123456789]");
  assert.throws(() => parseExact("[".repeat(33) + "]".repeat(33)), /levels/);
  assert.equal(Object.keys(parseExact('{"__proto__":{"a":1}}'))[0], "__proto__");
});

test("fields are what the schema describes, and reading them unchanged gives what was asked, byte for byte", () => {
  const asked = parseExact(ASKED);
  const form = fieldsOf(REFUND, asked);
  assert.deepEqual(flat(form), {
    "/amount": ["text", "1240.00"], "/currency": ["choice", '"EUR"'], "/count": ["integer", "2"], "/rate": ["number", "1.50"], "/notify": ["choice", ""], "/note": ["text", ""],
    "/lines": "array", "/lines/0/sku": ["text", "a"], "/lines/0/pieces": ["integer", "3"], "/lines/1/sku": ["text", "b"], "/lines/1/pieces": ["integer", ""],
    "/anything/x": ["json", "[\n  1e3,\n  [\n    null\n  ]\n]"],
  });
  const { value, faults } = readFields(form, asked);
  assert.deepEqual(faults, []);
  assert.equal(write(value), ASKED);
  assert.deepEqual(form.members.map(({ help }) => help).slice(0, 3), ["At most 12 characters", "", "At least 1"]);
});

test("without a schema the fields follow what was asked", () => {
  for (const text of ['{"to":"a@example.org","n":1.0,"yes":true,"none":null,"list":["a","b"],"mixed":[{"a":1}],"deep":{"er":""},"empty":[],"odd":"a\\rb","":1,"__proto__":"own"}', "{}"]) {
    const asked = parseExact(text);
    const { value, faults } = readFields(fieldsOf(undefined, asked), asked);
    assert.deepEqual([write(value), faults], [text, []]);
  }
  assert.deepEqual(flat(fieldsOf(undefined, { odd: "a\rb" })), { "/odd": ["json", '"a\\rb"'] }); // a text field would change the line end
});

test("what a field cannot say exactly is raw JSON: combinations, cycles, too many fields, other types than described", () => {
  const kind = (schema, value) => fieldsOf(schema, value).kind;
  const deep = (levels) => (levels ? { in: deep(levels - 1) } : 1);
  assert.equal(kind({ oneOf: [{ type: "string" }, { type: "integer" }] }, 1), "json");
  assert.equal(kind({ type: "string" }, 5), "json");
  assert.equal(kind({ type: "object", patternProperties: { a: {} } }, {}), "json");
  assert.equal(kind({ $ref: "https://elsewhere.example/x" }, undefined), "json");
  assert.equal(kind({ $ref: "#" }, undefined), "json");
  assert.equal(kind({ type: "object", properties: { self: { $ref: "#" } } }, undefined), "object"); // ends by itself
  assert.equal(kind(undefined, Object.fromEntries(Array.from({ length: 500 }, (_, n) => [n, n]))), "json");
  assert.match(JSON.stringify(fieldsOf(undefined, deep(30))), /"kind":"json"/);
  assert.equal(kind("nonsense", undefined), "json");
});

test("empty fields: left out, null, empty text or a fault", () => {
  const form = fieldsOf(REFUND, undefined);
  assert.deepEqual(readFields(form).faults.map((fault) => [fault.pointer, fault.isEmpty]), [["/currency", true], ["/count", true]]);
  const [amount, currency, count, rate, , note, lines] = form.members;
  [amount.text, currency.text, count.text, rate.text] = ["5.00", '"USD"', "03", "1.10"];
  lines.items.push(structuredClone(lines.blank));
  assert.deepEqual(readFields(form).faults.map((fault) => fault.pointer), ["/count"]);
  count.text = "3";
  note.text = "why";
  assert.equal(write(readFields(form).value), '{"amount":"5.00","currency":"USD","count":3,"rate":1.10,"note":"why","lines":[{"sku":""}]}');
  assert.equal(write(readFields(fieldsOf({ type: "object", properties: { a: { type: "object", required: ["b"], properties: { b: { type: "integer" } } } } })).value), "{}");
  const nullable = fieldsOf({ type: "object", required: ["a"], properties: { a: { type: ["integer", "null"] } } }, { a: 5 });
  nullable.members[0].text = "";
  assert.equal(write(readFields(nullable).value), '{"a":null}');
});

test("differences are the smallest parts that changed; an item that is gone does not change all after it", () => {
  const at = (from, to) => differences(parseExact(from), parseExact(to)).map(({ path, kind }) => `${kind} ${pointer(path)}`);
  assert.deepEqual(at(ASKED, ASKED), []);
  assert.deepEqual(at('{"a":1.50}', '{"a":1.5}'), []); // one number, written in two ways: one digest
  assert.deepEqual(at('{"a":1,"b":{"c":[1,2,3]},"d":"x"}', '{"b":{"c":[1,3]},"d":"y","e":null}'), ["removed /a", "removed /b/c/1", "changed /d", "added /e"]);
  assert.deepEqual(at('{"a":[1]}', '{"a":{"0":1}}'), ["changed /a"]);
  assert.deepEqual(at('{"a":[{"n":1},{"n":2}]}', '{"a":[{"n":1},{"n":5},{"n":6}]}'), ["changed /a/1/n", "added /a/2"]);
  assert.deepEqual(pathOf(pointer(["a/b", "c~d", "", 0])), ["a/b", "c~d", "", "0"]);
});

test("a fault is told at its field, or at the nearest around it", () => {
  const form = fieldsOf(REFUND, parseExact(ASKED));
  assert.deepEqual(nearest(form, ["lines", "1", "sku"]), { pointer: "/lines/1/sku", isExact: true });
  assert.deepEqual(nearest(form, ["anything", "x", "0"]), { pointer: "/anything/x", isExact: false });
  assert.deepEqual(nearest(form, ["unknown"]), { pointer: "", isExact: false });
});
