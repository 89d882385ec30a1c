// What the agent offers is what the page shows: edit with its difference and digest, respond, and groups.

import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "../../functions/decide/page/digest.js";
import { batchesBy, eventually, openPage, PHONE, row, sentBy, titles } from "./browser.mjs";
import { answer, askAll, decide, detail, newAgent } from "./stack.mjs";

const send = "ControlOrMeta+Enter";
const SCHEMA = {
  type: "object", required: ["amount", "currency", "count"], additionalProperties: false,
  properties: {
    amount: { type: "string", title: "Amount", description: "What the customer gets", maxLength: 12 }, currency: { enum: ["EUR", "USD"] }, count: { type: "integer", minimum: 1 }, rate: { type: "number" }, notify: { type: "boolean" },
    note: { type: "string" }, lines: { type: "array", items: { type: "object", required: ["sku"], properties: { sku: { type: "string" } } } }, odd: { oneOf: [{ type: "string" }, { type: "array" }] },
  },
};
const ACTION = { type: "refund.create", arguments: { amount: "1240.00", currency: "EUR", count: 2, rate: 1.5, notify: true, lines: [{ sku: "a" }, { sku: "b" }, { sku: "c" }], odd: ["x"] } };
const ANSWERS = ["approve", "reject", "edit", "respond"];

/** A request that can be edited and responded to, unless `offer` says otherwise, and the page with it. */
async function open(t, { changes = {}, offer = { answers: ANSWERS, edit_schema: SCHEMA }, ...options } = {}) {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "To be changed", action: ACTION, ...offer, ...changes });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, options);
  await tab.locator("#reject").waitFor();
  return { agent, asked, tab, sent: sentBy(tab), field: (name) => tab.locator(".answer-form").getByLabel(name, { exact: true }) };
}
const given = async (agent) => (await agent.poll()).decisions[0];

test("there is a button and a key for each answer that the agent takes, and for no other", async (t) => {
  const { tab } = await open(t, { offer: { answers: ["reject", "respond"] } });
  assert.deepEqual(await tab.locator(".bar-row > .button:visible").evaluateAll((all) => all.map((el) => el.id)), ["respond", "reject"]);
  for (const letter of ["a", "e"]) await tab.keyboard.press(letter);
  assert.equal(await tab.locator(".composer").isVisible(), false);
  await tab.keyboard.press("t");
  await tab.getByRole("heading", { name: "Respond" }).waitFor();
  await tab.keyboard.press("Escape");
  await tab.keyboard.press("?");
  for (const words of ["Edit, and approve with changes", "Respond with text or a form"]) await tab.getByText(words).waitFor();
});

test("an edit: fields of the schema, its difference in sight, and exactly what is shown goes with its digest", async (t) => {
  const { agent, tab, sent, field, asked } = await open(t);
  await tab.keyboard.press("e");
  await eventually(() => field("amount Amount").inputValue(), "1240.00");
  assert.equal(await tab.evaluate(() => document.activeElement.value), "1240.00");
  await tab.getByText("What the customer gets · At most 12 characters").waitFor();
  await tab.keyboard.press(send);
  await tab.getByText("Nothing is changed yet").waitFor();
  await field("amount Amount").fill("84.00");
  await field("currency").selectOption("USD");
  await field("rate (optional)").fill("1.10");
  await field("note (optional)").fill("as agreed");
  await tab.getByRole("button", { name: "Remove lines 2" }).click();
  await eventually(() => tab.locator(".changes-count").innerText(), "5 changes");
  const said = await tab.locator(".changes-list li").evaluateAll((all) => all.map((li) => li.textContent.replace(/\s+/g, " ")));
  assert.deepEqual(said, ['amount changedasked: "1240.00"now: "84.00"', 'currency changedasked: "EUR"now: "USD"', "rate changedasked: 1.5now: 1.10", "lines › 2. left outasked: sku\"b\"", 'note addednow: "as agreed"']);
  // A number as it was typed; whole numbers that JSON cannot hold are refused at their field.
  await field("count").fill("9007199254740993");
  await tab.getByText("Whole numbers beyond 9007199254740991").waitFor();
  assert.equal(await tab.locator(".changes-count").innerText(), "Not known while something is missing or wrong");
  await tab.keyboard.press(send);
  assert.equal(sent.length, 0);
  await field("count").fill("3");
  await eventually(() => tab.locator(".changes-count").innerText(), "6 changes");
  const edited = { amount: "84.00", currency: "USD", count: 3, rate: 1.1, notify: true, note: "as agreed", lines: [{ sku: "a" }, { sku: "c" }], odd: ["x"] };
  const digest = await digestOf({ type: "refund.create", arguments: edited });
  await eventually(() => tab.locator(".changes .digest").innerText(), digest);
  await tab.locator("#reason").fill("by phone");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Approved with changes To be changed" }).waitFor();
  assert.equal(sent.length, 1);
  assert.match(sent[0], /"rate":1\.10,/);
  assert.deepEqual(JSON.parse(sent[0]), { decision: "edit", arguments: edited, edited_action_digest: digest, reason: "by phone", action_digest: asked.action_digest });
  const { outcome, edited: isEdited, action, action_digest, requested_action_digest } = await given(agent);
  assert.deepEqual({ outcome, isEdited, action, action_digest, requested_action_digest }, { outcome: "approved", isEdited: true,
    action: { type: "refund.create", arguments: edited }, action_digest: digest, requested_action_digest: asked.action_digest });
});

test("what the server finds is told at its field; the form and its text stay, also over a reload", async (t) => {
  const { amount, lines } = SCHEMA.properties;
  const strict = { ...SCHEMA, properties: { ...SCHEMA.properties, amount: { ...amount, pattern: "^[0-9]{1,4}[.][0-9]{2}$" }, lines: { ...lines, items: { ...lines.items, properties: { sku: { type: "string", pattern: "^[ac]$" } } } } } };
  const { asked, tab, field } = await open(t, { offer: { answers: ANSWERS, edit_schema: strict } });
  await tab.locator("#edit").click();
  await field("amount Amount").fill("99999.00");
  const refusal = tab.waitForResponse((response) => response.url().endsWith("/decision"));
  await tab.keyboard.press(send);
  const { errors } = await (await refusal).json();
  assert.deepEqual(errors.map(({ pointer }) => pointer).sort(), ["/arguments/amount", "/arguments/lines/1/sku"]);
  const said = (pointer) => errors.find((one) => one.pointer === pointer).detail;
  await tab.getByText("see the marked fields").waitFor();
  assert.equal(await field("amount Amount").getAttribute("aria-invalid"), "true");
  assert.equal(await tab.locator(`#${(await field("amount Amount").getAttribute("aria-describedby")).split(" ")[0]}`).innerText(), said("/arguments/amount"));
  assert.equal(await tab.evaluate(() => document.activeElement.value), "99999.00");
  await tab.locator(".field-fault").getByText(said("/arguments/lines/1/sku"), { exact: true }).waitFor();
  await tab.reload();
  await eventually(() => field("amount Amount").inputValue(), "99999.00");
  await eventually(() => tab.locator(".changes-count").innerText(), "1 change");
  assert.equal((await detail(asked.request_id)).status, "pending");
});

test("all that fields cannot say is JSON; a name that is there twice is refused; without a schema the fields follow the action", async (t) => {
  const { agent, tab, sent, field } = await open(t, { offer: { answers: ANSWERS }, changes: { action: { type: "Bash", arguments: { command: "ls\n-l", "hidden": "a\u200Bb", end: "x\r\ny", deep: { none: null } } } } });
  await tab.locator("#edit").click();
  await eventually(() => field("command").inputValue(), "ls\n-l");
  await tab.locator(".field-exact", { hasText: "U+200B" }).waitFor();
  assert.equal(await field("end").inputValue(), '"x\\r\\ny"'); // a text field would change the line end
  await tab.getByRole("button", { name: "As JSON" }).click();
  await field("Arguments").fill('{"command":"a","command":"b"}');
  await tab.getByText("is there twice").waitFor();
  await field("Arguments").fill('{"command":"ls","amount":0.10}');
  await eventually(() => tab.locator(".changes-count").innerText(), "5 changes");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Approved with changes" }).waitFor();
  assert.match(sent[0], /"arguments":\{"command":"ls","amount":0\.10\}/);
  assert.deepEqual((await given(agent)).action, { type: "Bash", arguments: { command: "ls", amount: 0.1 } });
});

test("a P1 asks for its type before an edit, too", async (t) => {
  const { tab, sent, field } = await open(t, { changes: { priority: "P1" } });
  await tab.locator("#edit").click();
  await field("amount Amount").fill("1.00");
  await tab.keyboard.press(send);
  await tab.getByText("That is not the action’s type yet.").waitFor();
  await tab.keyboard.type("refund.create");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Approved with changes" }).waitFor();
  assert.equal(sent.length, 1);
});

test("a response: a text box of 1 to 8,000 characters, or the form of its schema", async (t) => {
  const first = await open(t, { offer: { answers: ANSWERS } });
  await first.tab.locator("#respond").click();
  await first.tab.keyboard.press(send);
  await first.tab.getByText("This is needed.").waitFor();
  await first.field("Response").fill("x".repeat(8001));
  await first.tab.getByText("It has 8,001 characters, 1 too many.").waitFor();
  await first.field("Response").fill("Ask again on Monday 🗓");
  await first.tab.keyboard.press(send);
  await first.tab.locator(".toast", { hasText: "Responded To be changed" }).waitFor();
  assert.deepEqual(JSON.parse(first.sent[0]), { decision: "respond", response: "Ask again on Monday 🗓", action_digest: first.asked.action_digest });

  const respond = { type: "object", required: ["choice", "days"], properties: { choice: { enum: ["wait", "go"] }, days: { type: "integer" }, why: { type: "string" } } };
  const second = await open(t, { offer: { answers: ANSWERS, respond_schema: respond } });
  await second.tab.keyboard.press("t");
  await second.tab.keyboard.press(send);
  await second.tab.getByText("Choose one.").waitFor();
  await second.field("choice").selectOption("wait");
  await second.field("days").fill("2.5");
  await second.tab.getByText("This has to be a whole number.").waitFor();
  await second.field("days").fill("2");
  await second.tab.keyboard.press(send);
  await second.tab.locator(".toast", { hasText: "Responded" }).waitFor();
  assert.deepEqual(JSON.parse(second.sent[0]).response, { choice: "wait", days: 2 });
  const { outcome, response } = await given(second.agent);
  assert.deepEqual({ outcome, response }, { outcome: "responded", response: { choice: "wait", days: 2 } });
});

test("what was edited is kept for copying when someone else decides first", async (t) => {
  const { tab, field, asked } = await open(t, { offer: { answers: ANSWERS }, changes: { action: { type: "x", arguments: { to: "a" } } } });
  await tab.locator("#edit").click();
  await field("to").fill("b");
  await decide(asked.request_id, "approve", "was faster");
  await tab.locator("#outcome").waitFor();
  assert.equal(await tab.locator(".kept-text").innerText(), '{\n  "to": "b"\n}');
});

test("a decided request shows the asked and the approved action side by side, or the response", async (t) => {
  const agent = await newAgent();
  const [edited, responded] = await askAll(agent, [{ title: "Edited", action: ACTION, answers: ANSWERS }, { title: "Responded", answers: ANSWERS, respond_schema: {} }]);
  const instead = { ...ACTION.arguments, amount: "<b>84.00</b>\u202E" };
  await answer(edited.request_id, { decision: "edit", arguments: instead, edited_action_digest: await digestOf({ type: ACTION.type, arguments: instead }) });
  await answer(responded.request_id, { decision: "respond", response: { when: "Monday" } });
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${edited.request_id}`);
  await eventually(async () => (await tab.locator(".outcome-words").innerText()).startsWith("Approved with changes by Jonas K."), true);
  const sides = tab.locator(".sides .action-box");
  assert.match(await sides.first().innerText(), /1240\.00/);
  assert.match(await sides.last().innerText(), /<b>84\.00<\/b>\s*U\+202E/);
  await tab.locator(".edited .check[data-state=match]").waitFor();
  assert.equal(await tab.locator(".answered .changes-list li").count(), 1);
  await row(tab, "Responded").click();
  await tab.getByRole("heading", { name: "Response" }).waitFor();
  assert.match(await tab.locator(".response").innerText(), /when\s+"Monday"/);
  await tab.getByRole("button", { name: "Responded 1" }).click();
  await eventually(() => titles(tab), ["Responded"]);
  assert.match(tab.url(), /outcome=responded/);
});

test("requests of a group are shown together, each action in sight, and all but a P1 are approved in one call", async (t) => {
  const agent = await newAgent();
  const asked = await askAll(agent, [{ title: "Mail Ann", action: { type: "mail.send", arguments: { to: "ann" } } }, { title: "Mail Bob", priority: "P1", action: { type: "mail.send", arguments: { to: "bob" } } }, { title: "Done before" }, { title: "Mail Cy", action: { type: "mail.send", arguments: { to: "cy" } } }].map((one) => ({ ...one, group: "turn-17" })));
  await decide(asked[2].request_id, "reject", "no");
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[0].request_id}`);
  const sent = batchesBy(tab);
  const group = tab.locator(".group");
  await group.getByText("4 requests, 3 pending").waitFor();
  const text = await group.innerText();
  for (const part of ["Mail Bob", '"bob"', "Mail Cy", '"cy"', "rejected"]) assert.ok(text.includes(part), part);
  assert.deepEqual(await group.locator(".bar-row button").allInnerTexts(), ["Approve all 2…", "Reject all 3…"]);
  await group.getByRole("button", { name: "Approve all 2…" }).click();
  await tab.getByRole("heading", { name: "Approve 2 requests" }).waitFor();
  for (const to of ["ann", "cy"]) await tab.locator(".batch-list").getByText(to, { exact: true }).waitFor();
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "2 of 2 requests answered" }).waitFor();
  assert.deepEqual(await tab.locator(".batch-list .batch-result").allInnerTexts(), ["Approved.", "Approved."]);
  const outcomes = await Promise.all(asked.map(async ({ request_id: id }) => (await detail(id)).decision?.outcome ?? "pending"));
  assert.deepEqual(outcomes, ["approved", "pending", "rejected", "approved"]);
  assert.deepEqual(sent.map((answers) => answers.map(({ request_id, decision, action_digest }) => [request_id, decision, action_digest])),
    [[0, 3].map((n) => [asked[n].request_id, "approve", asked[n].action_digest])]);
});

test("an edit on a phone: the difference and the buttons in sight, nothing sideways", async (t) => {
  const { tab, field } = await open(t, { viewport: PHONE, hasTouch: true, changes: { action: { ...ACTION, arguments: { ...ACTION.arguments, amount: "W".repeat(70) } } } });
  await tab.locator("#edit").click();
  await field("note (optional)").fill("<img src=x onerror='window.hit=1'>".repeat(4));
  await eventually(() => tab.locator(".changes-count").innerText(), "1 change");
  assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  for (const part of [".changes-count", ".changes-list", ".composer button[type=submit]"]) {
    const box = await tab.locator(part).first().boundingBox();
    assert.ok(box.y >= 0 && box.y < PHONE.height - 10, `${part} ${JSON.stringify(box)}`);
  }
  assert.equal(await tab.evaluate(() => window.hit), undefined);
});

for (const [where, options] of [["wide", {}], ["in a window of 960 x 560", { viewport: { width: 960, height: 560 } }], ["360 px wide", { viewport: PHONE }]]) {
  test(`the difference stays in sight whichever field is written, ${where}`, async (t) => {
    const { tab, field } = await open(t, options);
    await tab.locator("#edit").click();
    await field("amount Amount").fill("84.00");
    await field("odd (optional)").focus(); // the last field, which has to be scrolled to
    const covered = await tab.evaluate(() => ["#h-changes", ".changes-count", ".changes-list del", ".composer-title", ".composer button[type=submit]"].filter((part) => {
      const box = document.querySelector(part).getBoundingClientRect();
      const top = document.elementFromPoint(box.left + 4, box.top + box.height / 2);
      return !top?.closest(part);
    }));
    assert.deepEqual(covered, []);
    const [control, fields] = [await field("odd (optional)").boundingBox(), await tab.locator(".answer-fields").boundingBox()];
    assert.ok(control.y >= fields.y && control.y < fields.y + fields.height, "the focused field is in sight");
  });
}

test("a request that joins the group while all are being approved was not read, and is not approved", async (t) => {
  const agent = await newAgent();
  const group = "turn-18";
  const asked = await askAll(agent, [{ title: "First", group }, { title: "Second", group }]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[0].request_id}`);
  await tab.getByRole("button", { name: "Approve all 2" }).click();
  await tab.locator(".batch-list li").nth(1).waitFor();
  const late = await agent.ask({ title: "Came later", group });
  await row(tab, "Came later").waitFor();
  await tab.keyboard.press(send);
  await eventually(async () => (await Promise.all(asked.map(({ request_id: id }) => detail(id)))).map(({ status }) => status), ["decided", "decided"]);
  assert.equal((await detail(late.request_id)).status, "pending");
});
