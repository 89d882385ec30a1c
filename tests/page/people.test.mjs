// Who is asked, who is at it, who acts for whom: with rules, claims and delegations of the stack.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, openPage, PHONE, row, sentBy, titles } from "./browser.mjs";
import { addRule, ask, askAll, decide, detail, newAgent, personToken, stack } from "./stack.mjs";

const send = "ControlOrMeta+Enter";
const only = (group) => stack.operators.filter(({ groups, tenant }) => tenant === "default" && groups.join() === group).slice(5); // the first are other tests'
const [finance, ops] = [only("finance"), only("ops")];
/** Each test has people of its own: a delegation counts in every request. */
const next = (people) => people.shift();
const fact = (tab, kind) => tab.locator(`.people dd[data-kind=${kind}]`);
const atIt = (tab) => tab.locator("#list .claimed");

/** An agent whose requests go to a group, and one of them. */
async function asked(rule, changes = {}) {
  const agent = await newAgent();
  const applied = await addRule(agent, rule);
  const request = await agent.ask({ title: "Pay out", ...changes });
  return { agent, applied, request, address: `?agent_id=${agent.agentId}&id=${request.request_id}` };
}

test("a rule says who is asked: it is named, those may answer, the others read it and are told why", async (t) => {
  const [mine, other] = [next(finance), next(ops)];
  const { agent, applied, request, address } = await asked({ groups: ["finance"] });
  const tab = await openPage(t, address, { as: mine.token });
  assert.equal(await fact(tab, "asked").locator("code").innerText(), applied.name);
  assert.match(await fact(tab, "asked").innerText(), new RegExp(`^group finance by the rule ${applied.name} \\(version ${applied.version}\\)`));
  await tab.locator(".check[data-state=match]").waitFor();
  assert.equal(await tab.locator("#approve").getAttribute("aria-disabled"), null);
  const theirs = await openPage(t, address, { as: other.token });
  await theirs.getByText("It is assigned to others: you may read it, and they decide.").waitFor();
  for (const id of ["approve", "reject"]) assert.equal(await theirs.locator(`#${id}`).getAttribute("aria-disabled"), "true");
  for (const key of ["a", "r"]) await theirs.keyboard.press(key);
  assert.equal(await theirs.locator(".composer:visible").count(), 0);
  assert.equal(await theirs.locator("#reroute").count(), 0);
  // The filter is in the address, and lists what one may decide by name or group.
  await addRule(agent, { groups: ["finance"] });
  for (const [page, listed] of [[tab, ["Pay out"]], [theirs, []]]) {
    await page.getByRole("button", { name: "Assigned to me" }).click();
    await eventually(() => page.getByRole("button", { name: "Assigned to me" }).getAttribute("aria-pressed"), "true");
    await eventually(() => titles(page), listed);
    assert.match(page.url(), /assigned_to=me/);
  }
  assert.equal((await detail(request.request_id)).status, "pending");
});

test("whom an agent acts for may not approve it, only reject, and is told so", async (t) => {
  const mine = next(finance);
  const agent = await newAgent();
  const request = await agent.ask({ title: "My own", on_behalf_of: { id: mine.id, name: "<b>Me</b>" } });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${request.request_id}`, { as: mine.token });
  assert.equal(await fact(tab, "behalf").innerText(), "<b>Me</b>");
  await tab.getByText("It is asked on your behalf, so somebody else has to approve it.").waitFor();
  assert.equal(await tab.locator("#approve").getAttribute("aria-disabled"), "true");
  await tab.keyboard.press("r");
  await tab.keyboard.type("not needed");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Rejected My own" }).waitFor();
});

test("two people in two browsers: who writes an answer is seen by the other, as advice, and no longer when they stop", async (t) => {
  const [mine, other] = [next(finance), next(ops)];
  const agent = await newAgent();
  const [request] = await askAll(agent, [{ title: "Contested" }, { title: "Quiet" }]);
  const address = `?agent_id=${agent.agentId}&id=${request.request_id}`;
  const tab = await openPage(t, address, { as: mine.token });
  const theirs = await openPage(t, address, { as: other.token });
  await theirs.locator("#reject").waitFor();
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("half");
  await eventually(async () => (await fact(theirs, "claimed").allInnerTexts()).map((words) => words.startsWith(`${mine.name} is answering it, until in `)), [true]);
  await eventually(() => atIt(theirs).allInnerTexts(), [`${mine.name} is at it`, ""]);
  await eventually(() => theirs.locator("#announce").innerText(), `${mine.name} is answering this request.`);
  await tab.getByText("The others see that you are answering.").waitFor();
  assert.equal(await theirs.locator("#approve").getAttribute("aria-disabled"), null);
  // Writing beside them takes nothing from them; taking over is said.
  await theirs.locator("#reject").click();
  await theirs.getByText(`${mine.name} is answering it, too.`).waitFor();
  await theirs.keyboard.press("Escape");
  assert.equal((await detail(request.request_id)).claimed_by.id, mine.id);
  await theirs.locator("#take-over").click();
  await eventually(async () => (await fact(tab, "claimed").allInnerTexts()).map((words) => words.startsWith(other.name)), [true]);
  await eventually(() => tab.locator("#reason").inputValue(), "half");
  await row(theirs, "Quiet").click();
  await eventually(async () => (await detail(request.request_id)).claimed_by?.id ?? null, mine.id, "still written here, and free again");
  await tab.keyboard.press("Escape");
  await eventually(async () => (await detail(request.request_id)).claimed_by ?? null, null, "released");
  await tab.locator("#approve").click();
  await eventually(async () => (await detail(request.request_id)).claimed_by?.id ?? null, mine.id);
  await tab.goto("about:blank");
  await eventually(async () => (await detail(request.request_id)).claimed_by ?? null, null, "released by leaving");
});

test("a delegation is made and ended on the page; meanwhile the other answers for me, and the trace says so", async (t) => {
  const [mine, other] = [next(finance), next(ops)];
  const first = await asked({ groups: ["finance"] }, { title: "First" });
  const second = await first.agent.ask({ title: "Second" });
  await ask(other, "GET", "me"); // operators are known from their tokens
  const tab = await openPage(t, first.address, { as: mine.token });
  const theirs = await openPage(t, first.address, { as: other.token });
  await theirs.getByText("It is assigned to others").waitFor();
  await tab.locator("#operator").click();
  await tab.locator("#delegations").click();
  const dialog = tab.getByRole("dialog", { name: "Delegations" });
  await dialog.locator(".delegations li").first().waitFor();
  await dialog.getByRole("button", { name: "Delegate" }).click();
  await dialog.getByText("Say who.").waitFor();
  await dialog.getByLabel("Operator", { exact: true }).fill(other.id);
  await dialog.getByRole("button", { name: "Add" }).click();
  await dialog.getByLabel("Operator: chosen").getByText(other.name).waitFor();
  await dialog.getByRole("button", { name: "Delegate" }).click();
  await dialog.getByText("Say why.").waitFor();
  await dialog.getByLabel("Reason").fill("on <i>leave</i>");
  await dialog.getByLabel("Reason").press("Enter");
  await dialog.getByText("in force, ends in 6 d").waitFor();
  assert.match(await dialog.locator(".delegations").first().innerText(), new RegExp(`^${other.name} through finance\\s+in force, ends in 6 d · on <i>leave</i>`));

  await theirs.locator(".check[data-state=match]").waitFor();
  await eventually(() => theirs.locator("#approve").getAttribute("aria-disabled"), null);
  const sent = sentBy(theirs);
  await theirs.locator("#approve").click();
  assert.deepEqual(await theirs.locator("#acting option").allInnerTexts(), [`for ${mine.name}`]);
  await theirs.keyboard.press(send);
  await theirs.locator(".toast", { hasText: "Approved First" }).waitFor();
  assert.equal(JSON.parse(sent[0]).for, mine.id);
  const { decided_by: by } = (await detail(first.request.request_id)).decision;
  assert.deepEqual([by.id, by.for.id], [other.id, mine.id]);
  await tab.keyboard.press("Escape");
  await tab.locator("#outcome").waitFor();
  assert.match(await tab.locator(".outcome-words").innerText(), new RegExp(`by ${other.name} for ${mine.name}`));
  assert.match(await tab.locator(".trace li[data-kind=decided]").innerText(), new RegExp(`by ${other.name} for ${mine.name}`));

  await tab.locator("#operator").click();
  await tab.locator("#delegations").click();
  await dialog.getByRole("button", { name: `End the delegation to ${other.name}` }).click();
  await dialog.locator(".delegations").first().getByText("ended").first().waitFor();
  await theirs.goto(`${stack.base_url}/?agent_id=${first.agent.agentId}&id=${second.request_id}`);
  await theirs.getByText("It is assigned to others").waitFor();
  assert.equal(await theirs.locator("#approve").getAttribute("aria-disabled"), "true");
});

test("where several approve, nobody counts twice: not for themselves and for another", async (t) => {
  const [mine, other] = [next(finance), next(finance)];
  await ask(mine, "GET", "me");
  const until = new Date(Date.now() + 86_400_000).toISOString();
  await ask(mine, "PUT", `delegations/${mine.id}-away`, { to: other.id, groups: ["finance"], until, reason: "away" });
  const { request, address } = await asked({ groups: ["finance"], approvals: 2 });
  const tab = await openPage(t, address, { as: other.token, viewport: PHONE });
  await tab.locator("#approve").click();
  assert.deepEqual(await tab.locator("#acting option").allInnerTexts(), ["as myself", `for ${mine.name}`]);
  await tab.locator("#acting").selectOption(`for ${mine.name}`);
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Approval 1 of 2" }).waitFor();
  const [vote] = (await detail(request.request_id)).votes;
  assert.deepEqual([vote.voted_by.id, vote.voted_by.for.id], [other.id, mine.id]);
  await tab.goto(`${stack.base_url}/${address}`);
  await tab.getByText("You have approved it already").waitFor();
  assert.match(await fact(tab, "votes").locator("li").innerText(), new RegExp(`^${other.name} for ${mine.name}`));
  const delegator = await openPage(t, address, { as: mine.token });
  await delegator.getByText("You have approved it already").waitFor();
  assert.equal(await delegator.locator("#approve").getAttribute("aria-disabled"), "true");
  assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
});

test("rerouting names others and why; the page follows for both, and says what may not be", async (t) => {
  const [mine, other] = [next(finance), next(ops)];
  const { request, address } = await asked({ groups: ["finance"], reroute_to: ["ops"] });
  const tab = await openPage(t, address, { as: mine.token });
  const theirs = await openPage(t, address, { as: other.token });
  await theirs.getByText("It is assigned to others").waitFor();
  await tab.locator("#reroute").click();
  const dialog = tab.getByRole("dialog", { name: "Ask others" });
  await dialog.getByLabel("Remove finance").click();
  await dialog.getByRole("button", { name: "Reroute" }).click();
  await dialog.getByText("Name a group or an operator.").waitFor();
  await dialog.getByLabel("Groups", { exact: true }).fill("legal");
  await dialog.getByLabel("Reason").fill("theirs <b>now</b>");
  await dialog.getByRole("button", { name: "Reroute" }).click();
  await dialog.getByText("Nothing was recorded: the rule does not let it go there: an administrator may reroute it.").waitFor();
  assert.equal((await detail(request.request_id)).assigned_to.groups.join(), "finance");
  await dialog.getByLabel("Remove legal").click();
  await dialog.getByLabel("Groups", { exact: true }).fill("ops");
  await dialog.getByLabel("Reason").press(send);
  await tab.locator(".toast", { hasText: "Rerouted" }).waitFor();
  await tab.getByText("It is assigned to others").waitFor();
  await eventually(async () => (await fact(tab, "asked").innerText()).split(" by ")[0], "group ops");
  assert.match(await tab.locator(".trace li[data-kind=rerouted]").innerText(), new RegExp(`Rerouted by ${mine.name}[^]*theirs <b>now</b>`));
  await eventually(() => theirs.locator("#reject").getAttribute("aria-disabled"), null);
  await theirs.keyboard.press("r");
  await theirs.keyboard.type("no");
  await theirs.keyboard.press(send);
  await theirs.locator(".toast", { hasText: "Rejected Pay out" }).waitFor();
});

test("names are text, whatever is in them, and hidden characters are marked", async (t) => {
  const agent = await newAgent();
  const request = await agent.ask({ title: "Watched" });
  const name = "<img src=x onerror='window.hit=1'>\u202Eevil";
  const token = personToken({ sub: "hostile-name", name });
  await ask({ token }, "PUT", `requests/${request.request_id}/claim`, { seconds: 300 });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${request.request_id}`, { viewport: PHONE });
  assert.match(await fact(tab, "claimed").innerText(), /^<img src=x onerror='window\.hit=1'>U\+202Eevil is answering it/);
  await tab.goBack().catch(() => {});
  assert.equal(await tab.evaluate(() => window.hit), undefined);
  await decide(request.request_id, "reject", "no", token);
});
