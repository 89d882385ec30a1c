// What was decided: a history with time, person, outcome and what became of it, and the counts of what is listed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "../../functions/decide/page/digest.js";
import { eventually, openPage, PHONE, row, rows, titles } from "./browser.mjs";
import { answering, newGateway } from "./gateway.mjs";
import { answer, askAll, decide, newAgent, sql, stack } from "./stack.mjs";

const DECLINED = { code: "provider_declined", message: "the payment provider declined" };

/** One of each: failed, received, rejected, withdrawn, in the order of their decisions. */
async function history() {
  const agent = await newAgent();
  const asked = await askAll(agent, [{ title: "Failed", priority: "P3" }, { title: "Received" }, { title: "Refused", priority: "P1" }, { title: "Withdrawn" }]);
  await decide(asked[0].request_id, "approve", "fine", stack.operators[2].token);
  await decide(asked[1].request_id, "approve");
  for (const given of (await agent.poll()).decisions) {
    if (given.request_id === asked[0].request_id) await agent.acknowledge(given, "failed", DECLINED);
    else await agent.acknowledge(given);
  }
  await decide(asked[2].request_id, "reject", "no");
  await agent.cancel(asked[3].request_id);
  return { agent, asked };
}

for (const [where, options] of [["wide", {}], ["360 px wide", { viewport: PHONE }]]) {
  test(`the decided tab is a history: newest first, with time, person, outcome and what became of it, ${where}`, async (t) => {
    const { agent, asked } = await history();
    const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}`, options);
    await eventually(() => titles(tab), ["Withdrawn", "Refused", "Received", "Failed"]);
    const shown = await rows(tab).evaluateAll((all) => all.map((el) => [".left", ".person", ".fate"].map((part) => el.querySelector(part)?.textContent ?? "")));
    assert.deepEqual(shown, [
      ["cancelled by agent", "", "agent has not fetched it"],
      ["rejected", "by Jonas K.", "agent has not fetched it"],
      ["approved", "by Jonas K.", "not used yet"],
      ["approved, failed", `by ${stack.operators[2].name}`, "provider_declined"],
    ]);
    for (const when of await tab.locator("#list .when").all()) {
      assert.match(await when.innerText(), /^(just now|\d+ s ago)$/);
      assert.match(await when.getAttribute("title"), /\(\d{4}-\d\d-\d\dT/);
    }
    const color = (title) => row(tab, title).locator(".left").evaluate((el) => getComputedStyle(el).color);
    assert.notEqual(await color("Failed"), await color("Received"), "a failure is not plain green");
    assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    // A decision that is made meanwhile comes on top.
    const [newest] = await askAll(agent, [{ title: "Newest" }]);
    await decide(newest.request_id, "approve");
    await eventually(() => titles(tab), ["Newest", "Withdrawn", "Refused", "Received", "Failed"]);
    assert.ok(asked);
  });
}

test("a failure that the agent reported is told where its request is read, and can be filtered for", async (t) => {
  const { agent, asked } = await history();
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}`);
  await row(tab, "Failed").click();
  await tab.locator("#outcome").waitFor();
  assert.match(await tab.locator("#outcome").innerText(), /^Approved by [^]*\s+The agent reported a failure: the payment provider declined \(provider_declined\)/);
  assert.equal(await tab.locator("#outcome").getAttribute("data-outcome"), "failed");
  await eventually(() => tab.locator(".presence").innerText(), "agent reported a failure");
  await tab.locator(".trace").getByText("provider_declined").waitFor();
  await tab.getByRole("button", { name: /^Failed/ }).click();
  await eventually(() => titles(tab), ["Failed"]);
  assert.equal(new URL(tab.url()).searchParams.get("delivery_state"), "dead_lettered");
  await tab.getByRole("button", { name: /^Failed/ }).click();
  await tab.getByRole("button", { name: /^Rejected/ }).click();
  await eventually(() => titles(tab), ["Refused"]);
  // What the pending tab cannot mean stays behind.
  await tab.getByRole("link", { name: "Pending" }).click();
  await tab.getByText("Nothing matches").waitFor();
  assert.equal(new URL(tab.url()).search, `?agent_id=${agent.agentId}`);
  assert.ok(asked);
});

test("an address may name a person, a type and days; each can be seen and taken away", async (t) => {
  const { agent } = await history();
  const from = new Date(Date.now() - 3_600_000).toISOString();
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&decided_by=${stack.operators[2].id}&type=refund.create&from=${from}`);
  await eventually(() => titles(tab), ["Failed"]);
  assert.match(await tab.getByLabel("From").inputValue(), /^\d{4}-\d\d-\d\d$/);
  await tab.getByRole("button", { name: `Remove the filter decided by ${stack.operators[2].id}` }).click();
  await eventually(() => titles(tab), ["Withdrawn", "Refused", "Received", "Failed"]);
  await tab.getByLabel("From").fill("2020-01-01");
  await tab.getByLabel("to", { exact: true }).fill("2020-01-31");
  await tab.getByText("Nothing matches").waitFor();
  await tab.getByRole("button", { name: "Clear filters" }).click();
  await eventually(() => titles(tab).then((all) => all.length > 3), true);
});

test("chips count what is listed", async (t) => {
  const { agent } = await history();
  await askAll(agent, [{ title: "Waits", priority: "P1" }, { title: "Waits too" }]);
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}`);
  const counts = (group) => tab.getByRole("group", { name: group }).locator(".chip").allInnerTexts();
  await eventually(() => counts("Priority"), ["P1 1", "P2 2", "P3 1"]);
  assert.deepEqual(await counts("What became of it"), ["Approved 2", "Rejected 1", "Responded 0", "Cancelled 1", "Failed 1"]);
  await tab.getByRole("link", { name: "Pending" }).click();
  await eventually(() => counts("Priority"), ["P1 1", "P2 1", "P3 0"]);
  await tab.getByRole("link", { name: "All", exact: true }).click();
  await eventually(() => counts("Priority"), ["P1 2", "P2 3", "P3 1"]);
});

test("a count that is only a lower bound is shown as one", async (t) => {
  const gateway = await newGateway(t);
  gateway.meet = answering(200, "application/json", JSON.stringify({ items: [], next_cursor: null, counts: { pending: 10_003, P1: 3, P2: 10_000, P3: 0, capped: true } }));
  const tab = await openPage(t, "", { at: gateway.base_url });
  await eventually(() => tab.locator("#pending-count").innerText(), "10,003+");
  assert.deepEqual(await tab.getByRole("group", { name: "Priority" }).locator(".chip").allInnerTexts(), ["P1 3", "P2 10,000+", "P3 0"]);
  assert.equal(await tab.title(), "(10,003+) RelayTrace");
});

test("what the agent sent and was erased is told so plainly, an edit of it too", async (t) => {
  const agent = await newAgent();
  const [plain, edited] = await askAll(agent, [{ title: "Long ago", summary: "Said once", group: "old" }, { title: "Edited long ago", group: "old", answers: ["approve", "reject", "edit"] }]);
  const action = { type: "refund.create", arguments: { amount: "7.00" } };
  await decide(plain.request_id, "approve");
  await answer(edited.request_id, { decision: "edit", arguments: action.arguments, edited_action_digest: await digestOf(action) });
  for (const { request_id: id } of [plain, edited]) sql("DELETE FROM request_envelopes WHERE request_id = %s", id); // what `relaytrace erase` does
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${plain.request_id}`);
  await tab.getByText("was erased. Its digest and its trace stay.").waitFor();
  assert.equal(await tab.locator("#h-action ~ .action-box").innerText(), "Erased");
  assert.equal(await tab.locator(".action .check").innerText(), "cannot be checked: the action was erased");
  assert.equal(await tab.locator(".action code.digest").innerText(), plain.action_digest);
  assert.match(await tab.locator(".trace").innerText(), /Decided: approved/);
  assert.equal(await tab.locator("#h-summary, #h-context").count(), 0);
  const sibling = tab.locator(".group-list li");
  await sibling.getByText("Erased", { exact: true }).waitFor();
  assert.equal(await sibling.locator(".check").count(), 0);
  await row(tab, "Edited long ago").click();
  await tab.locator(".edited .check[data-state=match]").waitFor();
  const sides = tab.locator(".sides .action-box");
  assert.equal(await sides.first().innerText(), "Erased");
  assert.match(await sides.last().innerText(), /7\.00/);
});
