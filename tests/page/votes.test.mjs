// Several approvals where one is not enough: who has approved, how many are missing, and who may not count twice.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, newTab, openPage, PHONE } from "./browser.mjs";
import { answer, detail, needApprovals, newAgent, stack } from "./stack.mjs";

const send = "ControlOrMeta+Enter";
const [ann, ben, cleo] = stack.operators;
const said = (tab) => tab.locator(".people dd[data-kind=votes] p").innerText();

/** An agent whose requests need so many approvals, and one of them. */
async function asked(approvals, changes = {}) {
  const agent = await newAgent();
  await needApprovals(agent, approvals);
  return { agent, request: await agent.ask({ title: "Pay out", ...changes }) };
}
const approve = ({ request_id: id, action_digest }, person) => answer(id, { decision: "approve", action_digest }, person.token);
const addressOf = ({ agent, request }) => `?agent_id=${agent.agentId}&id=${request.request_id}`;

test("two people in two browsers: the first approval is seen by the other at once, the second decides", async (t) => {
  const pair = await asked(2);
  const [first, second] = [await openPage(t, addressOf(pair)), await openPage(t, addressOf(pair), { as: ben.token })];
  for (const tab of [first, second]) await eventually(() => said(tab), "0 of 2: 2 more people have to approve; one rejection decides");
  await first.locator(".check[data-state=match]").waitFor();
  await first.keyboard.press("a");
  await first.locator("#reason").fill("checked <b>twice</b>");
  await first.keyboard.press(send);
  await first.locator(".toast", { hasText: "Approval 1 of 2 Pay out" }).waitFor();
  for (const tab of [first, second]) await eventually(() => said(tab), "1 of 2: 1 more person has to approve; one rejection decides");
  assert.match(await second.locator(".people dd[data-kind=votes] li").innerText(), new RegExp(`^${ann.name}.*checked <b>twice</b>`, "s"));
  assert.equal(await second.locator("#announce").innerText(), `Approval 1 of 2, by ${ann.name}.`);
  // Nobody counts twice; a voter may still stop it.
  await first.getByText("You have approved it already").waitFor();
  assert.equal(await first.locator("#approve").getAttribute("aria-disabled"), "true");
  assert.equal(await first.locator("#reject").getAttribute("aria-disabled"), null);
  await first.keyboard.press("a");
  assert.equal(await first.locator(".composer:visible").count(), 0);
  assert.equal((await detail(pair.request.request_id)).status, "pending");
  await second.locator("#approve").click();
  await second.keyboard.press(send);
  await second.locator(".toast", { hasText: "Approved Pay out" }).waitFor();
  await first.locator("#outcome").waitFor();
  assert.match(await first.locator(".outcome-words").innerText(), new RegExp(`^Approved by ${ben.name}`));
  await eventually(() => said(first), "2 of 2");
  const votes = await first.locator(".people dd[data-kind=votes] li").allInnerTexts();
  assert.deepEqual(votes.map((words) => [ann, ben].find(({ name }) => words.startsWith(name))?.id), [ann.id, ben.id]);
  assert.equal(await first.locator(".trace li[data-kind=voted]").count(), 1);
});

test("one rejection decides, whatever was approved before it", async (t) => {
  const trio = await asked(3);
  await approve(trio.request, ann);
  const tab = await openPage(t, addressOf(trio), { as: ben.token });
  await eventually(() => said(tab), "1 of 3: 2 more people have to approve; one rejection decides");
  await tab.keyboard.press("r");
  await tab.keyboard.type("twice the amount");
  await tab.keyboard.press(send);
  await tab.locator(".toast", { hasText: "Rejected Pay out" }).waitFor();
  const { decision, approvals } = await detail(trio.request.request_id);
  assert.deepEqual([decision.outcome, approvals], ["rejected", { required: 3, given: 1 }]);
});

test("what several approve is what was asked: it cannot be edited, and says why", async (t) => {
  const pair = await asked(2, { answers: ["approve", "reject", "edit", "respond"] });
  const tab = await openPage(t, addressOf(pair));
  await tab.getByText("It needs 2 approvals, so it can only be approved or rejected as it was asked.").waitFor();
  for (const id of ["edit", "respond"]) assert.equal(await tab.locator(`#${id}`).getAttribute("aria-disabled"), "true");
  for (const key of ["e", "t"]) await tab.keyboard.press(key);
  assert.equal(await tab.locator(".composer:visible").count(), 0);
  await tab.locator(".check[data-state=match]").waitFor();
  assert.equal(await tab.locator("#approve").getAttribute("aria-disabled"), null);
});

test("while I write, another's approval appears and my text stays; an answer that is lost counts once, and the page learns of it", async (t) => {
  const trio = await asked(3);
  const tab = await openPage(t, addressOf(trio), { viewport: PHONE });
  await tab.locator("#approve").click();
  await tab.locator("#reason").fill("half written");
  await approve(trio.request, ben);
  await eventually(() => said(tab), "1 of 3: 2 more people have to approve; one rejection decides");
  await eventually(() => tab.locator("#reason").inputValue(), "half written");
  // The answer is lost on its way back: the vote counts once, however often it is sent.
  let lost = 0;
  await tab.route("**/decision", async (route) => {
    if (lost) return route.continue();
    lost += 1;
    await route.fetch();
    return route.abort();
  });
  await tab.keyboard.press(send);
  await tab.locator("#composer-error", { hasText: "You have approved it already" }).waitFor();
  await eventually(() => said(tab), "2 of 3: 1 more person has to approve; one rejection decides");
  assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  await approve(trio.request, cleo);
  await tab.locator("#outcome").waitFor();
  assert.deepEqual((await detail(trio.request.request_id)).votes.map(({ voted_by: by }) => by.id), [ben.id, ann.id, cleo.id]);
});

test("a request of one approval says nothing of votes", async (t) => {
  const agent = await newAgent();
  const request = await agent.ask({ title: "Alone" });
  const tab = await newTab(t);
  await tab.goto(`${stack.base_url}/${addressOf({ agent, request })}#token=${ann.token}`);
  await tab.locator("#detail-title").waitFor();
  assert.equal(await tab.locator(".people dd[data-kind=votes]").count(), 0);
});
