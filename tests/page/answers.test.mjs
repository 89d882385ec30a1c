// What the agent offers is what the page shows: edit with its difference and digest, respond, and groups.

import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "../../functions/decide/page/digest.js";
import { eventually, focused, openPage, PHONE, row } from "./browser.mjs";
import { describing } from "./gateway.mjs";
import { askAll, decide, detail, newAgent } from "./stack.mjs";

const send = "ControlOrMeta+Enter";
const SCHEMA = {
  type: "object", required: ["amount", "currency", "count"], additionalProperties: false,
  properties: {
    amount: { type: "string", title: "Amount", description: "What the customer gets", maxLength: 12 }, currency: { enum: ["EUR", "USD"] }, count: { type: "integer", minimum: 1 }, rate: { type: "number" }, notify: { type: "boolean" },
    note: { type: "string" }, lines: { type: "array", items: { type: "object", required: ["sku"], properties: { sku: { type: "string" } } } }, odd: { oneOf: [{ type: "string" }, { type: "array" }] },
  },
};
const ACTION = { type: "refund.create", arguments: { amount: "1240.00", currency: "EUR", count: 2, rate: 1.5, notify: true, lines: [{ sku: "a" }, { sku: "b" }, { sku: "c" }], odd: ["x"] } };
const offers = (answers, more = {}) => ({ decision, status, you }) => ({ answers, ...(status !== "pending" || decision ? {} : you && { you: { may: answers, why_not: null } }), ...more });

/** A request that can be edited and responded to, and the page with it. `decided` answers for the deployment. */
async function open(t, { changes = {}, answers = ["approve", "reject", "edit", "respond"], schemas = { edit_schema: SCHEMA }, decided, ...options } = {}) {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "To be changed", action: ACTION, ...changes });
  const gateway = await describing(t, { [asked.request_id]: offers(answers, schemas) }, decided);
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { at: gateway.base_url, ...options });
  await tab.locator("#reject").waitFor();
  return { agent, asked, gateway, tab, field: (name) => tab.locator(".answer-form").getByLabel(name, { exact: true }) };
}
const accepted = (outcome, more = {}) => (body, id) => ({ status: 201, body: { request_id: id, outcome, cause: "operator", decided_by: { kind: "operator", id: "maria", name: "Maria K." }, decided_at: new Date().toISOString(), reason: null, action_digest: body.edited_action_digest ?? body.action_digest, ...more } });

test("there is a button and a key for each answer that the agent takes, and for no other", async (t) => {
  const { tab } = await open(t, { answers: ["reject", "respond"] });
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
  const { tab, gateway, field, asked } = await open(t, { decided: accepted("approved", { edited: true }) });
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
  assert.equal(gateway.sent.length, 0);
  await field("count").fill("3");
  await eventually(() => tab.locator(".changes-count").innerText(), "6 changes");
  const edited = { amount: "84.00", currency: "USD", count: 3, rate: 1.1, notify: true, note: "as agreed", lines: [{ sku: "a" }, { sku: "c" }], odd: ["x"] };
  const digest = await digestOf({ type: "refund.create", arguments: edited });
  await eventually(() => tab.locator(".changes .digest").innerText(), digest);
  await tab.locator("#reason").fill("by phone");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Approved with changes To be changed" }).waitFor();
  assert.equal(gateway.sent.length, 1);
  assert.match(gateway.sent[0], /"rate":1\.10,/);
  assert.deepEqual(JSON.parse(gateway.sent[0]), { decision: "edit", arguments: edited, edited_action_digest: digest, reason: "by phone", action_digest: asked.action_digest });
});

test("what the server finds is told at its field; the form and its text stay, also over a reload", async (t) => {
  const errors = [{ pointer: "/arguments/amount", detail: "is more than the order" }, { pointer: "/arguments/lines/1/sku", detail: "is not of this order" }];
  const { tab, field } = await open(t, { decided: () => ({ status: 422, body: { type: "urn:relaytrace:problem:validation-failed", title: "x", status: 422, code: "validation-failed", retryable: false, errors } }) });
  await tab.locator("#edit").click();
  await field("amount Amount").fill("99999.00");
  await tab.keyboard.press(send);
  await tab.getByText("see the marked fields").waitFor();
  assert.equal(await field("amount Amount").getAttribute("aria-invalid"), "true");
  assert.equal(await tab.locator(`#${(await field("amount Amount").getAttribute("aria-describedby")).split(" ")[0]}`).innerText(), "is more than the order");
  assert.equal(await tab.evaluate(() => document.activeElement.value), "99999.00");
  await tab.getByText("is not of this order").waitFor();
  await tab.reload();
  await eventually(() => field("amount Amount").inputValue(), "99999.00");
  await eventually(() => tab.locator(".changes-count").innerText(), "1 change");
});

test("all that fields cannot say is JSON; a name that is there twice is refused; without a schema the fields follow the action", async (t) => {
  const { tab, gateway, field } = await open(t, { schemas: {}, changes: { action: { type: "Bash", arguments: { command: "ls\n-l", "hidden": "a\u200Bb", end: "x\r\ny", deep: { none: null } } } }, decided: accepted("approved", { edited: true }) });
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
  assert.match(gateway.sent[0], /"arguments":\{"command":"ls","amount":0\.10\}/);
});

test("a P1 asks for its type before an edit, too", async (t) => {
  const { tab, gateway, field } = await open(t, { changes: { priority: "P1" }, decided: accepted("approved", { edited: true }) });
  await tab.locator("#edit").click();
  await field("amount Amount").fill("1.00");
  await tab.keyboard.press(send);
  await tab.getByText("That is not the action’s type yet.").waitFor();
  await tab.keyboard.type("refund.create");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Approved with changes" }).waitFor();
  assert.equal(gateway.sent.length, 1);
});

test("a response: a text box of 1 to 8,000 characters, or the form of its schema", async (t) => {
  const first = await open(t, { schemas: {}, decided: accepted("responded") });
  await first.tab.locator("#respond").click();
  await first.tab.keyboard.press(send);
  await first.tab.getByText("This is needed.").waitFor();
  await first.field("Response").fill("x".repeat(8001));
  await first.tab.getByText("It has 8,001 characters, 1 too many.").waitFor();
  await first.field("Response").fill("Ask again on Monday 🗓");
  await first.tab.keyboard.press(send);
  await first.tab.locator(".toast", { hasText: "Responded To be changed" }).waitFor();
  assert.deepEqual(JSON.parse(first.gateway.sent[0]), { decision: "respond", response: "Ask again on Monday 🗓", action_digest: first.asked.action_digest });

  const respond = { type: "object", required: ["choice", "days"], properties: { choice: { enum: ["wait", "go"] }, days: { type: "integer" }, why: { type: "string" } } };
  const second = await open(t, { schemas: { respond_schema: respond }, decided: accepted("responded") });
  await second.tab.keyboard.press("t");
  await second.tab.keyboard.press(send);
  await second.tab.getByText("Choose one.").waitFor();
  await second.field("choice").selectOption("wait");
  await second.field("days").fill("2.5");
  await second.tab.getByText("This has to be a whole number.").waitFor();
  await second.field("days").fill("2");
  await second.tab.keyboard.press(send);
  await second.tab.locator(".toast", { hasText: "Responded" }).waitFor();
  assert.deepEqual(JSON.parse(second.gateway.sent[0]).response, { choice: "wait", days: 2 });
});

test("what was edited is kept for copying when someone else decides first", async (t) => {
  const { tab, field, asked } = await open(t, { schemas: {}, changes: { action: { type: "x", arguments: { to: "a" } } } });
  await tab.locator("#edit").click();
  await field("to").fill("b");
  await decide(asked.request_id, "approve", "was faster");
  await tab.locator("#outcome").waitFor();
  assert.equal(await tab.locator(".kept-text").innerText(), '{\n  "to": "b"\n}');
});

test("a decided request shows the asked and the approved action side by side, or the response", async (t) => {
  const agent = await newAgent();
  const [edited, responded] = await askAll(agent, [{ title: "Edited", action: ACTION }, { title: "Responded" }]);
  for (const { request_id: id } of [edited, responded]) await decide(id, "approve");
  const instead = { type: ACTION.type, arguments: { ...ACTION.arguments, amount: "<b>84.00</b>\u202E" } };
  const digest = await digestOf(instead);
  const gateway = await describing(t, {
    [edited.request_id]: ({ decision }) => (decision ? { decision: { ...decision, edited: true, action: instead, action_digest: digest, requested_action_digest: decision.action_digest } } : { edited: true }),
    [responded.request_id]: ({ decision }) => ({ outcome: "responded", ...(decision && { decision: { ...decision, outcome: "responded", response: { when: "Monday" } } }) }),
  });
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${edited.request_id}`, { at: gateway.base_url });
  await eventually(async () => (await tab.locator(".outcome-words").innerText()).startsWith("Approved with changes by Jonas K."), true);
  const sides = tab.locator(".sides .action-box");
  assert.match(await sides.first().innerText(), /1240\.00/);
  assert.match(await sides.last().innerText(), /<b>84\.00<\/b>\s*U\+202E/);
  await tab.locator(".edited .check[data-state=match]").waitFor();
  assert.equal(await tab.locator(".answered .changes-list li").count(), 1);
  await row(tab, "Responded").click();
  await tab.getByRole("heading", { name: "Response" }).waitFor();
  assert.match(await tab.locator(".response").innerText(), /when\s+"Monday"/);
});

test("requests of a group are shown together, each action in sight, and decided all at once, one call after the other", async (t) => {
  const agent = await newAgent();
  const asked = await askAll(agent, [{ title: "Mail Ann", action: { type: "mail.send", arguments: { to: "ann" } } }, { title: "Mail Bob", priority: "P1", action: { type: "mail.send", arguments: { to: "bob" } } }, { title: "Done before" }, { title: "Mail Cy", action: { type: "mail.send", arguments: { to: "cy" } } }]);
  await decide(asked[2].request_id, "reject", "no");
  const gateway = await describing(t, Object.fromEntries(asked.map(({ request_id: id }) => [id, () => ({ group: "turn-17" })])));
  const { meet } = gateway;
  gateway.meet = (call, pass) => { // the stack knows no groups yet: the agent's requests are the group
    assert.ok(!call.url.includes("group=") || call.url.includes("group=turn-17"));
    return meet(call, pass);
  };
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[0].request_id}`, { at: gateway.base_url });
  await tab.route("**/v1/hitl/requests?*group=turn-17*", (route) => route.continue({ url: route.request().url().replace(/&group=[^&]*/, "") }));
  const group = tab.locator(".group");
  await group.getByText("4 requests, 3 pending").waitFor();
  const text = await group.innerText();
  for (const part of ["Mail Bob", '"bob"', "Mail Cy", '"cy"', "rejected"]) assert.ok(text.includes(part), part);
  await group.getByRole("button", { name: "Approve all 3…" }).click();
  await tab.getByRole("heading", { name: "Approve all 3 requests" }).waitFor();
  for (const to of ["ann", "bob", "cy"]) await tab.locator(".all-actions").getByText(to, { exact: true }).waitFor();
  await tab.keyboard.press(send);
  await tab.getByText("That is not the action’s type yet.").waitFor();
  assert.equal(await focused(tab), "confirm-type");
  assert.equal(gateway.sent.length, 0);
  await tab.keyboard.type("mail.send");
  await tab.keyboard.press(send);
  await tab.getByText("Nothing matches").waitFor();
  const outcomes = await Promise.all(asked.map(async ({ request_id: id }) => (await detail(id)).decision.outcome));
  assert.deepEqual(outcomes, ["approved", "approved", "rejected", "approved"]);
  assert.deepEqual(gateway.sent.map((body) => JSON.parse(body).action_digest).sort(), [0, 1, 3].map((n) => asked[n].action_digest).sort());
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
  const asked = await askAll(agent, [{ title: "First" }, { title: "Second" }]);
  const more = Object.fromEntries(asked.map(({ request_id: id }) => [id, () => ({ group: "turn-18" })]));
  const gateway = await describing(t, more);
  const tab = await openPage(t, "", { at: gateway.base_url });
  await tab.route("**/v1/hitl/requests?*group=turn-18*", (route) => route.continue({ url: route.request().url().replace(/&group=[^&]*/, "") }));
  await tab.goto(`${gateway.base_url}/?agent_id=${agent.agentId}&id=${asked[0].request_id}`);
  await tab.getByRole("button", { name: "Approve all 2" }).click();
  const late = await agent.ask({ title: "Came later" });
  more[late.request_id] = () => ({ group: "turn-18" });
  await tab.locator(".group").getByText("Came later").waitFor();
  await tab.keyboard.press(send);
  await eventually(async () => (await Promise.all(asked.map(({ request_id: id }) => detail(id)))).map(({ status }) => status), ["decided", "decided"]);
  await eventually(() => tab.locator("#detail-title").innerText(), "Came later");
  assert.equal((await detail(late.request_id)).status, "pending");
});
