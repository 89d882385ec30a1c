// The rules area, against the stack: one tenant's rules, which no other test writes, and its administrators.

import assert from "node:assert/strict";
import { test } from "node:test";
import { check } from "./axe.mjs";
import { eventually, newTab, openPage, PHONE } from "./browser.mjs";
import { answer, call, newAgent, personToken, stack } from "./stack.mjs";

const acme = stack.admins.find(({ tenant }) => tenant === "acme").token;
const person = (name, roles = ["operator", "admin"]) => personToken({ sub: `rules-${name.toLowerCase()}`, name, roles, groups: ["ops"], tenant: "acme" });
const [ada, bea, opa] = [person("Ada"), person("Bea"), person("Opa", ["operator"])];
const save = "ControlOrMeta+Enter";

const standing = async () => (await call("/v1/admin/rules", { token: acme })).json;
/** Sets the tenant's rules, whatever they are. */
async function setRules(rules, note = "A test’s") {
  for (;;) {
    const { version } = await standing();
    const made = await call("/v1/admin/rules", { token: acme, method: "PUT", headers: { "if-match": `"${version}"` }, body: { rules, note } });
    if (made.status === 200) return made.json.version;
    if (made.status !== 412) throw new Error(made.text);
  }
}
const rule = (name, more = {}) => ({ name, mode: "enforce", match: {}, then: { ask: { groups: ["ops"] } }, ...more });
const asker = () => newAgent(undefined, acme);

/** The rules area, as somebody sees it who followed a link to it. */
async function openRules(t, { as = ada, at = "#rules", ...options } = {}) {
  const tab = await openPage(t, "", { as, ...options });
  await tab.locator("#operator", { hasText: /\w/ }).waitFor();
  await tab.goto(`${stack.base_url}/${at}`);
  await tab.locator(".rules-version", { hasText: /Version|No rules/ }).waitFor();
  return tab;
}
const rowOf = (tab, name) => tab.locator(".rule-row", { has: tab.locator(".rule-name", { hasText: new RegExp(`^${name}$`) }) });
const names = (tab) => tab.locator(".rule-row .rule-name").allInnerTexts();
const form = (tab) => tab.locator(".rule-form");
const text = (tab) => tab.locator(".code-text");
const written = async (tab) => JSON.parse(await text(tab).inputValue());
const panel = (tab, name) => tab.getByRole("tab", { name }).click();

test("the rules stand in their order, each with its mode, its sentence and what it did", async (t) => {
  const agent = await asker();
  const version = await setRules([
    rule("by amount", { match: { agents: [agent.agentId], action_types: ["refund.*"], arguments: { "/amount": { lt: 50 } } }, then: { ask: { groups: ["finance"], approvals: 2 } } }),
    rule("would reject", { mode: "shadow", match: { agents: [agent.agentId], action_types: ["mail.*"] }, then: { decide: "reject", reason: "too many" } }),
    rule("old", { mode: "off" }),
  ], "Three <b>kinds</b>");
  await agent.ask({ action: { type: "refund.create", arguments: { amount: "12.00" } } });
  await agent.ask({ action: { type: "refund.create", arguments: { amount: "a lot" } } });
  await agent.ask({ action: { type: "mail.send", arguments: {} } });
  const tab = await openRules(t);
  assert.deepEqual(await names(tab), ["by amount", "would reject", "old"]);
  assert.deepEqual(await tab.locator(".rule-row .rule-mode").allInnerTexts(), ["● Enforced", "◐ Shadow", "○ Off"]);
  assert.equal(await rowOf(tab, "would reject").locator(".rule-words").innerText(), `When ${agent.agentId} asks for mail.*: reject (too many).`);
  assert.match(await tab.locator(".rules-version").innerText(), new RegExp(`^Version ${version} by .*: ?Three <b>kinds</b>`, "s"));
  await eventually(async () => { await tab.reload(); await rowOf(tab, "by amount").waitFor(); return rowOf(tab, "by amount").locator(".rule-counts").textContent(); }, "applied 2 timescould not be judged 1 time");
  assert.match(await rowOf(tab, "would reject").locator(".rule-counts").textContent(), /^would have applied 1 time$/);
});

test("only administrators see the area, by its tab and by a link; an administrator who is no operator sees nothing else", async (t) => {
  await setRules([rule("secret of administrators")]);
  const tab = await openPage(t, "", { as: opa });
  await tab.locator("#operator", { hasText: "Opa" }).waitFor();
  await tab.goto(`${stack.base_url}/#rules`);
  await tab.locator("#list-note", { hasText: /\w/ }).or(tab.locator("#list .row").first()).waitFor();
  assert.equal(await tab.locator("#rules-tab").isVisible(), false);
  assert.equal(await tab.locator("#rules").isVisible(), false);
  assert.equal(await tab.getByText("secret of administrators").count(), 0);
  // An administrator who is no operator has the rules, and nothing else.
  const only = await openPage(t, "", { as: person("Cas", ["admin"]) });
  await only.locator("#gate-rules").click();
  await rowOf(only, "secret of administrators").waitFor();
  await rowOf(only, "secret of administrators").click();
  await only.keyboard.press("j");
  assert.equal(await only.locator("#main").isVisible(), false);
  await only.locator("#tabs").getByText("Pending").click();
  await only.getByRole("heading", { name: "No access to the queue" }).waitFor();
  const mine = await openPage(t, "", { as: ada });
  await mine.locator("#rules-tab").click();
  await rowOf(mine, "secret of administrators").waitFor();
  assert.equal(await mine.locator("#rules-tab").getAttribute("aria-current"), "page");
  await mine.locator("#tabs").getByText("Decided").click();
  assert.equal(await mine.locator("#rules").isVisible(), false);
  await mine.goBack();
  await rowOf(mine, "secret of administrators").waitFor();
});

test("the form writes the text, and the text the form; what no field knows stays", async (t) => {
  await setRules([rule("first"), rule("second")]);
  const tab = await openRules(t);
  await rowOf(tab, "first").click();
  await form(tab).getByLabel("Name").fill("small refunds");
  await form(tab).getByText("Shadow").click();
  await form(tab).getByLabel("Agents").fill("billing-agent\nmail-agent");
  await form(tab).getByLabel("P2", { exact: true }).check();
  await form(tab).getByRole("button", { name: "Add a condition" }).click();
  await form(tab).getByLabel("where in the arguments").fill("amount");
  await form(tab).getByLabel("comparison").selectOption("is at most");
  await form(tab).getByLabel("value").fill("50.00");
  await form(tab).getByLabel("Then", { exact: true }).selectOption("approve, without a person");
  await form(tab).getByLabel(/^Reason/).fill("small and known");
  await form(tab).getByLabel("At most so many times").fill("5");
  await form(tab).getByLabel("In", { exact: true }).fill("2");
  await form(tab).getByLabel("Unit of In").selectOption("hours");
  await eventually(() => written(tab), {
    name: "small refunds", mode: "shadow", match: { agents: ["billing-agent", "mail-agent"], priorities: ["P2"], arguments: { "/amount": { lte: 50 } } },
    then: { decide: "approve", reason: "small and known", at_most: { count: 5, per_seconds: 7200 } },
  });
  assert.match(await text(tab).inputValue(), /"lte": 50\.00/);
  assert.match(await tab.locator(".rule-sentence").innerText(), /^When billing-agent or mail-agent asks for anything as P2 and amount is at most 50\.00: approve \(small and known\), at most 5 times in 2 hours\.$/);
  // And back.
  const changed = { ...await written(tab), future: { kept: true } };
  changed.match.arguments = { "/amount": { gt: 1, lte: 50 }, "/currency": { in: ["EUR", "USD"] }, "/id": { equals: "42" } };
  changed.then.at_most = { count: 3, per_seconds: 90 };
  await text(tab).fill(JSON.stringify(changed, null, 2));
  await eventually(() => form(tab).getByLabel("At most so many times").inputValue(), "3");
  assert.equal(await form(tab).getByLabel("In", { exact: true }).inputValue(), "90");
  assert.deepEqual(await form(tab).getByLabel("value").evaluateAll((all) => all.map(({ value }) => value)), ["1", "50", "EUR, USD", '"42"']);
  await form(tab).getByLabel("Name").fill("renamed");
  await eventually(async () => (await written(tab)).future, { kept: true });
  await eventually(() => names(tab), ["renamed", "second"]);
  // The whole document, too: a rule's place is its own.
  await tab.getByRole("button", { name: "All rules" }).click();
  await eventually(async () => (await written(tab)).map(({ name }) => name), ["renamed", "second"]);
  await text(tab).fill(JSON.stringify((await written(tab)).toReversed()));
  await eventually(() => names(tab), ["second", "renamed"]);
  assert.equal(await form(tab).getByLabel("Name").inputValue(), "renamed");
  assert.match(await tab.locator(".rules-what").innerText(), /^Not saved: 1 added, 1 removed/);
  assert.equal((await standing()).rules[0].name, "first");
});

test("text that cannot be read is told with its line, holds the form and saving, and can be given up", async (t) => {
  const version = await setRules([rule("only")]);
  const tab = await openRules(t);
  await rowOf(tab, "only").click();
  await text(tab).fill('{\n  "name": "only",\n  "mode" "off"\n}');
  await tab.locator(".rule-faults", { hasText: "Line 3 a colon is expected" }).waitFor();
  assert.equal(await form(tab).getByLabel("Name").isDisabled(), true);
  await tab.getByText("The text cannot be read at present").waitFor();
  await tab.getByRole("button", { name: "Line 3" }).click();
  assert.equal(await text(tab).evaluate((el) => el.value.slice(el.selectionStart, el.selectionEnd)), '  "mode" "off"');
  await tab.keyboard.press(save);
  assert.equal((await standing()).version, version);
  await tab.getByRole("button", { name: "Back to what could be read last" }).click();
  await eventually(async () => (await written(tab)).mode, "enforce");
  assert.equal(await form(tab).getByLabel("Name").isDisabled(), false);
});

test("a refused document's faults stand at their fields, at their lines and in the list", async (t) => {
  const version = await setRules([rule("good"), rule("bad")]);
  const tab = await openRules(t);
  await rowOf(tab, "bad").click();
  await form(tab).getByLabel("Then", { exact: true }).selectOption("reject, without a person");
  await form(tab).getByRole("button", { name: "Add a condition" }).click();
  await form(tab).getByLabel("where in the arguments").fill("/amount");
  await form(tab).getByLabel("comparison").selectOption("is below");
  await form(tab).getByLabel("value").fill("much");
  await tab.locator("#rules-note").fill("a try");
  await rowOf(tab, "good").click();
  await tab.locator("#rules-save").click();
  await tab.locator("#rules-error", { hasText: "1 rule has faults" }).waitFor();
  // The faulty rule is open, at its field.
  await eventually(() => form(tab).getByLabel("Name").inputValue(), "bad");
  await form(tab).locator(".conditions .field-fault", { hasText: "must be a number, or a text that is a decimal" }).waitFor();
  assert.equal(await form(tab).getByLabel("value").getAttribute("aria-invalid"), "true");
  await form(tab).getByText("is required to decide").waitFor();
  assert.match(await rowOf(tab, "bad").innerText(), /2 faults/);
  const faults = await tab.locator(".rule-text .rule-faults li").allInnerTexts();
  const lines = (await text(tab).inputValue()).split("\n");
  const lineOf = (words) => Number(/Line (\d+)/.exec(faults.find((one) => one.includes(words)))[1]);
  assert.match(lines[lineOf("must be a number") - 1], /"lt": "much"/);
  assert.match(lines[lineOf("is required to decide") - 1], /"then"/);
  assert.match(await tab.locator(".gutter").innerText(), new RegExp(`● ${lineOf("must be a number")}`));
  // What is mended is no longer told; then it is saved, with its note.
  await form(tab).getByLabel("value").fill("50");
  await eventually(() => form(tab).locator(".conditions .field-fault").innerText(), "");
  await form(tab).getByLabel(/^Reason/).fill("too much");
  await tab.keyboard.press(save);
  await tab.locator(".toast", { hasText: `Version ${version + 1} is in force` }).waitFor();
  const saved = await standing();
  assert.deepEqual([saved.note, saved.rules[1].match.arguments, saved.rules[1].then], ["a try", { "/amount": { lt: 50 } }, { decide: "reject", reason: "too much" }]);
  assert.equal(await tab.locator(".rules-bar").isVisible(), false);
});

test("a note is needed; add, duplicate, move, switch off, delete and undo, by keyboard where that is quicker", async (t) => {
  const version = await setRules([rule("a"), rule("b"), rule("c")]);
  const tab = await openRules(t);
  await rowOf(tab, "b").click();
  await tab.keyboard.press("Alt+ArrowUp");
  await eventually(() => names(tab), ["b", "a", "c"]);
  assert.match(await tab.locator("#announce").innerText(), /Now number 1 of 3/);
  await tab.keyboard.press("j");
  assert.match(await tab.locator(".rule-title").innerText(), /^2\. a/);
  await tab.getByRole("button", { name: "Duplicate" }).click();
  await eventually(() => names(tab), ["b", "a", "a 2", "c"]);
  await tab.getByRole("button", { name: "Add a rule" }).click();
  await eventually(() => names(tab), ["b", "a", "a 2", "New rule", "c"]);
  assert.equal(await rowOf(tab, "New rule").getAttribute("data-mode"), "shadow");
  await rowOf(tab, "c").click();
  await form(tab).getByText("Off", { exact: false }).first().click();
  await rowOf(tab, "a").click();
  await tab.getByRole("button", { name: "Delete" }).click();
  await eventually(() => names(tab), ["b", "a 2", "New rule", "c"]);
  await tab.getByRole("button", { name: "Undo" }).click();
  await eventually(() => names(tab), ["b", "a", "a 2", "New rule", "c"]);
  await tab.keyboard.press(save);
  await tab.locator("#rules-error", { hasText: "Say why" }).waitFor();
  assert.equal((await standing()).version, version);
  await tab.locator("#rules-note").fill("tidied");
  await tab.keyboard.press(save);
  await tab.locator(".toast", { hasText: `Version ${version + 1}` }).waitFor();
  const { rules } = await standing();
  assert.deepEqual(rules.map(({ name, mode }) => `${name} ${mode}`), ["b enforce", "a enforce", "a 2 enforce", "New rule shadow", "c off"]);
  // A filter finds by name and by what is said.
  await tab.keyboard.press("/");
  await tab.keyboard.type("new rul");
  await eventually(() => names(tab), ["New rule"]);
});

test("two administrators: the second is told who was first, sees the difference, and puts theirs on top", async (t) => {
  const version = await setRules([rule("a"), rule("b"), rule("c")]);
  const [first, second] = [await openRules(t), await openRules(t, { as: bea })];
  for (const [tab, name, words] of [[first, "a", "first’s"], [second, "b", "second’s"]]) {
    await rowOf(tab, name).click();
    await form(tab).getByText("Off", { exact: false }).first().click();
    await tab.locator("#rules-note").fill(words);
  }
  await first.locator("#rules-save").click();
  await first.locator(".toast", { hasText: "in force" }).waitFor();
  await second.locator("#rules-save").click();
  const told = second.locator(".rules-conflict");
  await told.getByText(`Ada saved version ${version + 1}`).waitFor();
  assert.match(await told.innerText(), new RegExp(`while you were changing version ${version}.*first’s`, "s"));
  await told.getByRole("button", { name: "See what they changed" }).click();
  assert.match(await told.locator(".changes-list").first().innerText(), /a changed[\s\S]*mode changed[\s\S]*enforce[\s\S]*off/);
  await check(second, "a conflict");
  await told.getByRole("button", { name: "Put yours on top" }).click();
  assert.equal(await told.isVisible(), false);
  await second.locator("#rules-save").click();
  await second.locator(".toast", { hasText: `Version ${version + 2} is in force` }).waitFor();
  assert.deepEqual((await standing()).rules.map(({ mode }) => mode), ["off", "off", "enforce"]);
  // Taking theirs drops one's own, after one more question.
  await rowOf(second, "c").click();
  await form(second).getByText("Shadow").click();
  await setRules([rule("theirs")], "all new");
  await second.locator("#rules-note").fill("mine");
  await second.locator("#rules-save").click();
  await told.getByRole("button", { name: "Take theirs" }).click();
  await second.getByRole("dialog").getByRole("button", { name: "Take theirs" }).click();
  await eventually(() => names(second), ["theirs"]);
  assert.equal(await second.locator(".rules-bar").isVisible(), false);
});

test("the draft outlives looking at requests, a reload and the end of the sign-in, not another person; leaving asks", async (t) => {
  await setRules([rule("kept")]);
  const tab = await openRules(t);
  await rowOf(tab, "kept").click();
  await form(tab).getByLabel("Agents").fill("somebody");
  await tab.locator("#rules-note").fill("half a note");
  await eventually(async () => (await tab.locator("#rules-changed").innerText()).trim(), "● unsaved");
  await tab.locator("#tabs").getByText("Decided").click();
  await tab.locator("#rules-tab").click();
  assert.equal(await form(tab).getByLabel("Agents").inputValue(), "somebody");
  await eventually(() => tab.evaluate(() => sessionStorage.getItem("relaytrace.rules")?.includes("half a note")), true);
  let asked = 0;
  tab.on("dialog", (dialog) => { asked += 1; dialog.accept(); });
  await tab.reload();
  assert.equal(asked, 1);
  await rowOf(tab, "kept").click();
  await eventually(() => form(tab).getByLabel("Agents").inputValue(), "somebody");
  assert.equal(await tab.locator("#rules-note").inputValue(), "half a note");
  await tab.goto(`${stack.base_url}/#token=${bea}`);
  await tab.locator("#operator", { hasText: "Bea" }).waitFor();
  await tab.locator("#rules-tab").click();
  await rowOf(tab, "kept").click();
  assert.equal(await form(tab).getByLabel("Agents").inputValue(), "");
  assert.equal(await tab.locator(".rules-bar").isVisible(), false);
});

test("the history: versions with who and why, the difference to the draft, and back to one of them", async (t) => {
  await setRules([rule("kept"), rule("goes")], "with both");
  const version = await setRules([rule("kept", { mode: "off" })], "one less");
  const tab = await openRules(t);
  await panel(tab, "History");
  const [now, before] = [tab.locator(`.rule-versions [data-version="${version}"]`), tab.locator(`.rule-versions [data-version="${version - 1}"]`)];
  await before.getByText("with both").waitFor();
  assert.match(await now.innerText(), /one less[\s\S]*in force/);
  await before.getByRole("button", { name: "Difference to the draft" }).click();
  assert.match(await before.locator(".difference").innerText(), /1 changed, 1 removed[\s\S]*kept changed[\s\S]*goes removed/);
  await before.getByRole("button", { name: "Put version" }).click();
  await eventually(() => names(tab), ["kept", "goes"]);
  await tab.locator("#rules-note").fill("back");
  await tab.locator("#rules-save").click();
  await tab.locator(".toast", { hasText: `Version ${version + 1} is in force` }).waitFor();
  await tab.locator(`.rule-versions [data-version="${version + 1}"]`).waitFor();
});

/** Requests of one agent, decided by a person: [amount, decision, reason]. */
async function decided(list) {
  const agent = await asker();
  const ids = [];
  for (const [amount, decision, reason] of list) {
    const { request_id: id } = await agent.ask({ title: `Refund of ${amount}`, action: { type: "refund.create", arguments: { amount, currency: "EUR" } } });
    await answer(id, { decision, reason }, ada);
    ids.push(id);
  }
  return { agent, ids };
}

test("a draft is tried on what people decided: progress, counts, and first what a person rejected and it would approve", async (t) => {
  await setRules([]);
  const { agent, ids } = await decided([["10.00", "approve", null], ["20.00", "approve", null], ["40.00", "reject", "asked <b>twice</b>"], ["900.00", "reject", "too much"]]);
  const tab = await openRules(t);
  await tab.getByRole("button", { name: "Add a rule" }).click();
  await form(tab).getByLabel("Agents").fill(agent.agentId);
  await form(tab).getByText("Enforced").click();
  await form(tab).getByLabel("Then", { exact: true }).selectOption("approve, without a person");
  await form(tab).getByLabel(/^Reason/).fill("small");
  await form(tab).getByRole("button", { name: "Add a condition" }).click();
  await form(tab).getByLabel("where in the arguments").fill("/amount");
  await form(tab).getByLabel("comparison").selectOption("is at most");
  await form(tab).getByLabel("value").fill("50");
  await panel(tab, "Try");
  const calls = [];
  tab.on("request", (request) => { if (request.url().endsWith("/rules/try")) calls.push(JSON.parse(request.postData())); });
  await tab.locator("#try-start").click();
  const count = (kind) => tab.locator(`.try-counts [data-kind=${kind}] dd`).innerText();
  await eventually(async () => [await tab.locator("#try-start").isVisible(), await count("approved")], [true, "3"]);
  assert.equal(await tab.locator(".try-danger").innerText(), "▲ 1 that was rejected would be approved.");
  const example = tab.locator(".try-examples li").first();
  await example.getByText("Refund of 40.00").waitFor();
  assert.match(await example.innerText(), /rejected by Ada \(asked <b>twice<\/b>\), the draft would approve by New rule/);
  assert.ok(calls.length > 1 && calls.every(({ limit, from, to }) => limit > 0 && from < to), "in pages");
  assert.equal((await standing()).rules.length, 0);
  // Wider: tried again by itself.
  await form(tab).getByLabel("value").fill("1000");
  await eventually(() => tab.locator(".try-danger").innerText(), "▲ 2 that were rejected would be approved.");
  // Narrower: no danger left.
  await form(tab).getByLabel("value").fill("30");
  await eventually(async () => [await tab.locator(".try-danger").innerText(), await count("approved")], ["", "2"]);
  // Its faults stand at their places, here too.
  await form(tab).getByLabel("value").fill("few");
  await form(tab).locator(".conditions .field-fault", { hasText: "must be a number" }).waitFor();
  assert.equal(await tab.locator(".try-results").isVisible(), false, "what another draft would have done");
  await form(tab).getByLabel("value").fill("50");
  await eventually(async () => [await tab.locator(".try-results").isVisible(), await count("approved")], [true, "3"]);
  // An example leads to its request, and back to the draft.
  await tab.locator(".try-examples a", { hasText: "Refund of 40.00" }).click();
  await tab.locator("#detail-title", { hasText: "Refund of 40.00" }).waitFor();
  assert.match(tab.url(), new RegExp(`id=${ids[2]}`));
  await tab.locator("#rules-tab").click();
  assert.equal(await form(tab).getByLabel("value").inputValue(), "50");
});

test("a trial can be cancelled, and says what was tried until then; a page that is lost is told", async (t) => {
  await setRules([rule("any")]);
  const tab = await openRules(t);
  await panel(tab, "Try");
  let held = null;
  let pages = 0;
  await tab.route("**/rules/try", async (route) => {
    pages += 1;
    if (pages === 3) { held = route; return; }
    await route.continue();
  });
  await tab.locator("#try-start").click();
  await eventually(() => pages, 3);
  assert.ok(Number(await tab.locator("progress").getAttribute("value")) > 0);
  await tab.locator("#try-cancel").click();
  await tab.getByText("Cancelled: these are the requests that were tried until then.").waitFor();
  await held.abort().catch(() => {});
  assert.equal(await tab.locator("#try-start").isVisible(), true);
  await tab.unroute("**/rules/try");
  await tab.route("**/rules/try", (route) => route.abort());
  await tab.locator("#try-start").click();
  await tab.locator(".rule-try .composer-error", { hasText: "The server cannot be reached" }).waitFor();
});

test("always like this: a decided request becomes a draft with its trial; widening it shows at once what it would have done", async (t) => {
  await setRules([rule("standing", { match: { agents: ["nobody-at-all"] } })]);
  const { agent, ids } = await decided([["10.00", "approve", "known customer"], ["20.00", "approve", null], ["30.00", "reject", "not this one"]]);
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${ids[0]}`, { as: ada });
  await tab.getByRole("button", { name: "Always like this …" }).click();
  await eventually(async () => (await form(tab).getByLabel("Agents").inputValue()), agent.agentId);
  assert.match(await tab.locator(".rule-title").innerText(), /^1\. refund\.create/);
  assert.deepEqual(await form(tab).getByLabel("where in the arguments").evaluateAll((all) => all.map(({ value }) => value)), ["/amount", "/currency"]);
  assert.equal(await form(tab).getByLabel(/^Reason/).inputValue(), "known customer");
  const count = () => tab.locator(".try-counts [data-kind=approved] dd").innerText();
  await eventually(count, "1");
  assert.equal(await tab.locator(".try-danger").innerText(), "");
  // Any amount: what a person rejected is named at once.
  await form(tab).getByRole("button", { name: "Remove this condition" }).first().click();
  await eventually(count, "3");
  await eventually(() => tab.locator(".try-danger").innerText(), "▲ 1 that was rejected would be approved.");
  assert.equal((await standing()).rules.length, 1);
  // An operator is offered nothing.
  const other = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${ids[0]}`, { as: opa });
  await other.locator(".outcome-words").waitFor();
  assert.equal(await other.getByRole("button", { name: "Always like this …" }).count(), 0);
});

test("operators see which rule decided, could not be judged, or would have, and why", async (t) => {
  const agent = await asker();
  const match = { agents: [agent.agentId] };
  const version = await setRules([
    rule("refuse gifts", { match: { ...match, action_types: ["gift.*"] }, then: { decide: "reject", reason: "No gifts <i>at all</i>" } }),
    rule("compares", { match: { ...match, arguments: { "/amount": { lt: 5 } } } }),
    rule("in the shadow", { mode: "shadow", match: { ...match, action_types: ["mail.send"] }, then: { decide: "approve", reason: "harmless" } }),
  ]);
  const gift = await agent.ask({ action: { type: "gift.send", arguments: { amount: 1 } } });
  const unjudged = await agent.ask({ action: { type: "refund.create", arguments: {} } });
  const shadowed = await agent.ask({ action: { type: "mail.send", arguments: { amount: 10 } } });
  const tab = await openPage(t, `?status=all&id=${gift.request_id}`, { as: opa });
  assert.match(await tab.locator(".outcome").innerText(), new RegExp(`^Rejected by the rule refuse gifts \\(version ${version}\\)[\\s\\S]*No gifts <i>at all</i>`));
  const said = tab.locator(".people dd[data-kind=rule]");
  assert.equal(await said.innerText(), `refuse gifts (version ${version}) rejected it, without a person.`);
  await tab.goto(`${stack.base_url}/?status=all&id=${unjudged.request_id}`);
  await said.getByText("compares").waitFor();
  assert.match(await said.innerText(), /could not be judged: an argument that it compares is missing, or of another kind/);
  await tab.goto(`${stack.base_url}/?status=all&id=${shadowed.request_id}`);
  await said.getByText("in the shadow").waitFor();
  assert.match(await said.innerText(), /Shadow: in the shadow would have approved it\. It does not act\./);
  assert.equal(await said.locator("a").count(), 0);
  const admins = await openPage(t, `?status=all&id=${gift.request_id}`, { as: ada });
  await admins.locator(".people dd[data-kind=rule] a").click();
  await eventually(() => admins.locator(".rule-title").innerText(), "1. refuse gifts");
});

for (const [where, viewport] of [["wide", undefined], ["360 px wide", PHONE]]) {
  test(`axe finds nothing in the rules, and nothing is wider than the window, ${where}`, async (t) => {
    await setRules([
      rule("W".repeat(100), { match: { agents: ["a".repeat(63)], arguments: { [`/${"x".repeat(80)}`]: { equals: "y".repeat(300) } } } }),
      rule("\u202Edesrever <img src=x onerror=alert(1)>", { mode: "shadow", then: { decide: "reject", reason: "<script>alert(1)</script>" } }), rule("off", { mode: "off" }),
    ]);
    const tab = await openRules(t, viewport && { viewport });
    const fits = async (state) => {
      await check(tab, state);
      assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, state);
    };
    await fits("the list");
    assert.equal(await tab.locator("#rules img, #rules script, #rules i").count(), 0);
    await rowOf(tab, "W+").click();
    await tab.locator(".rule-title", { hasText: "WWW" }).waitFor();
    await fits("a rule");
    await form(tab).getByLabel("Then", { exact: true }).selectOption("approve, without a person");
    await form(tab).getByRole("button", { name: "Add an exception" }).click();
    await tab.locator("#rules-note").fill("x");
    await tab.locator("#rules-save").click();
    await tab.locator("#rules-error", { hasText: "fault" }).waitFor();
    await fits("faults");
    await panel(tab, "Try");
    await tab.locator("#try-start").click();
    await tab.locator(".rule-try .composer-error", { hasText: /\w/ }).waitFor();
    await form(tab).getByLabel(/^Reason/).fill("r");
    await tab.locator("#try-start").click();
    await tab.locator(".try-counts div").first().waitFor();
    await fits("a trial");
    await panel(tab, "History");
    await tab.locator(".rule-versions li").first().getByRole("button", { name: "Difference" }).click();
    await fits("the history");
    await tab.locator("#rules-discard").click();
    await fits("the question before the draft is dropped");
    await tab.keyboard.press("Escape");
    if (!viewport) return;
    await tab.locator(".rule-pane .back").click();
    await rowOf(tab, "off").waitFor();
    await rowOf(tab, "off").click();
    await tab.goBack();
    await eventually(() => rowOf(tab, "off").isVisible(), true);
    assert.equal(await tab.locator(".rule-pane").isVisible(), false);
  });
}

test("five hundred rules: few nodes, typed text and moving at once", async (t) => {
  await setRules([rule("one")]);
  const small = await openRules(t);
  const nodes = (tab) => tab.evaluate(() => document.querySelectorAll("*").length);
  const few = await nodes(small);
  await setRules(Array.from({ length: 500 }, (_, n) => rule(`rule number ${n}`, { match: { agents: [`agent-${n}`], arguments: { "/amount": { lt: n }, "/note": { prefix: "x".repeat(200) } } } })));
  const tab = await newTab(t);
  await tab.goto(`${stack.base_url}/#token=${ada}`);
  await tab.locator("#rules-tab").click();
  await rowOf(tab, "rule number 0").click();
  const many = await nodes(tab);
  await tab.locator(".rules-scroll").evaluate((el) => { el.scrollTop = el.scrollHeight; });
  await rowOf(tab, "rule number 499").click();
  await eventually(() => tab.locator(".rule-title").innerText(), "500. rule number 499");
  const longest = await tab.evaluate(async () => {
    const input = [...document.querySelectorAll(".rule-form input")].find((one) => one.maxLength === 100);
    const times = [];
    for (let n = 0; n < 20; n += 1) {
      const from = performance.now();
      input.value = `renamed ${n}`;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      times.push(performance.now() - from);
      await new Promise(requestAnimationFrame);
    }
    return times.sort((a, b) => a - b)[10];
  });
  await tab.getByRole("button", { name: "All rules" }).click();
  await eventually(async () => (await text(tab).inputValue()).length > 150_000, true);
  const large = await nodes(tab);
  t.diagnostic(`nodes in the page: ${few} with one rule, ${many} with 500, ${large} with all of them as text; a letter of a name ${longest.toFixed(1)} ms (median)`);
  assert.ok(many < few + 600 && large < few + 600, `${few}, ${many}, ${large}`);
  assert.ok(await tab.locator(".rule-row").count() < 60);
});
