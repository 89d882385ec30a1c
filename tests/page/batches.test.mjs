// Several at once: chosen in the list, every action in sight, one call, a result for each.

import assert from "node:assert/strict";
import { test } from "node:test";
import { batchesBy, eventually, focused, openPage, PHONE, row } from "./browser.mjs";
import { newGateway } from "./gateway.mjs";
import { answer, askAll, decide, detail, needApprovals, newAgent, stack } from "./stack.mjs";

const send = "ControlOrMeta+Enter";
const pick = (tab, title) => tab.getByRole("checkbox", { name: `Select ${title}`, exact: true });
const mail = (to, more = {}) => ({ title: `Mail ${to}`, action: { type: "mail.send", arguments: { to } }, ...more });
const outcomes = (asked) => Promise.all(asked.map(async ({ request_id: id }) => (await detail(id)).decision?.outcome ?? "pending"));
const results = (tab) => tab.locator(".batch-list .batch-result").allInnerTexts();

async function open(t, list, options = {}) {
  const agent = await newAgent();
  if (options.approvals) await needApprovals(agent, options.approvals);
  const asked = await askAll(agent, list);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`, options);
  await row(tab, list.at(-1).title).waitFor();
  return { agent, asked, tab, sent: batchesBy(tab) };
}

test("by keyboard: X selects, Shift A opens, every action is in sight, one call carries the digests, and each has its result", async (t) => {
  const { asked, tab, sent } = await open(t, [mail("ann"), mail("bob"), mail("cy"), mail("dee")]);
  for (const key of ["j", "x", "j", "x", "j", "x"]) await tab.keyboard.press(key);
  assert.equal(await tab.locator("#picked strong").innerText(), "3 selected");
  await tab.keyboard.press("Shift+A");
  await tab.getByRole("heading", { name: "Approve 3 requests" }).waitFor();
  for (const to of ["ann", "bob", "cy"]) await tab.locator(".batch-list .action-box").getByText(to, { exact: true }).waitFor();
  assert.equal(await tab.locator(".batch-list .action-box").count(), 3);
  assert.equal(sent.length, 0);
  await tab.locator("#batch-reason").fill("all three are on the list");
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "3 of 3 requests answered" }).waitFor();
  assert.deepEqual(await results(tab), ["Approved.", "Approved.", "Approved."]);
  await eventually(() => tab.locator("#list a.row .title").allInnerTexts(), ["Mail dee"]);
  assert.equal(await tab.locator("#picked").isVisible(), false);
  assert.deepEqual(sent, [asked.slice(0, 3).map(({ request_id, action_digest }) => ({ request_id, decision: "approve", action_digest, reason: "all three are on the list" }))]);
  assert.deepEqual(await outcomes(asked), ["approved", "approved", "approved", "pending"]);
  assert.equal((await detail(asked[0].request_id)).decision.reason, "all three are on the list");
  await tab.keyboard.press("Escape");
  await eventually(() => tab.locator("#list a.row .title").allInnerTexts(), ["Mail dee"]);
  assert.equal(await tab.locator("#picked").isVisible(), false);
});

test("approving takes one kind and never a P1; rejecting takes any, and needs its reason", async (t) => {
  const { asked, tab, sent } = await open(t, [mail("ann", { priority: "P1" }), mail("bob"), { title: "A refund" }]);
  await pick(tab, "Mail bob").check();
  await pick(tab, "A refund").check();
  await tab.getByText("Approving takes one kind of action at once; these are of 2 kinds.").waitFor();
  await pick(tab, "A refund").uncheck();
  await pick(tab, "Mail ann").check();
  await tab.getByText("A P1 is approved by itself: 1 of the 2 is one.").waitFor();
  assert.equal(await tab.locator("#picked-approve").getAttribute("aria-disabled"), "true");
  await tab.locator("#picked-approve").click({ force: true });
  await tab.keyboard.press("Shift+A");
  assert.equal(await tab.locator(".batch").count(), 0);
  await pick(tab, "A refund").check();
  await tab.locator("#picked-reject").click();
  await tab.getByRole("heading", { name: "Reject 3 requests" }).waitFor();
  await tab.locator(".batch-list li").nth(2).waitFor();
  await tab.keyboard.press(send);
  await tab.getByText("A rejection needs a reason").waitFor();
  assert.equal(await focused(tab), "batch-reason");
  assert.equal(sent.length, 0);
  await tab.getByRole("button", { name: "Against policy" }).click();
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "3 of 3 requests answered" }).waitFor();
  assert.deepEqual(await outcomes(asked), ["rejected", "rejected", "rejected"]);
  assert.equal(sent[0].every(({ reason }) => reason === "Against policy"), true);
});

test("two people in two browsers: what the other decided first is told at its own request, the rest is recorded", async (t) => {
  const { agent, asked, tab } = await open(t, [mail("ann"), mail("bob"), mail("cy")]);
  const other = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[1].request_id}`, { as: stack.operators[1].token });
  await pick(tab, "Mail ann").check();
  await tab.getByRole("button", { name: "Add 2 more of mail.send" }).click();
  await tab.locator("#picked-approve").click();
  await tab.locator(".batch-list li").nth(2).waitFor();
  await other.locator("#reject").click();
  await other.locator("#reason").fill("not bob");
  await other.keyboard.press(send);
  await other.locator(".toast", { hasText: "Rejected Mail bob" }).waitFor();
  await tab.locator(".batch-list").getByText("bob", { exact: true }).waitFor(); // what is read stays
  await tab.locator(".batch-form button[type=submit]").click();
  await tab.getByRole("heading", { name: "2 of 3 requests answered" }).waitFor();
  assert.deepEqual(await results(tab), ["Approved.", `Your answer was not recorded: it is rejected by ${stack.operators[1].name} already.`, "Approved."]);
  assert.match(await tab.locator(".batch .facts").first().innerText(), /Approved: 2 · not recorded: 1/);
  assert.deepEqual(await outcomes(asked), ["approved", "rejected", "approved"]);
  await tab.locator(".batch-list").getByRole("link", { name: "Mail bob" }).click();
  await tab.locator("#outcome", { hasText: "not bob" }).waitFor();
});

test("where several have to approve, a batch is recorded as votes, and one that I gave before is left out", async (t) => {
  const { asked, tab } = await open(t, [mail("ann"), mail("bob"), mail("cy")], { approvals: 2 });
  const [me, other] = stack.operators;
  await answer(asked[0].request_id, { decision: "approve", action_digest: asked[0].action_digest }, me.token);
  await answer(asked[2].request_id, { decision: "approve", action_digest: asked[2].action_digest }, other.token);
  for (const to of ["ann", "bob", "cy"]) await pick(tab, `Mail ${to}`).check();
  await tab.locator("#picked-approve").click();
  await tab.getByRole("heading", { name: "Approve 2 requests" }).waitFor();
  await tab.getByRole("heading", { name: "Left out: 1" }).waitFor();
  await tab.locator(".batch-out").getByText("You have approved it already").waitFor();
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "2 of 2 requests answered" }).waitFor();
  assert.deepEqual(await results(tab), ["Your approval is recorded: 1 of 2. It is pending until the others have approved.", "Approved."]);
  assert.deepEqual(await outcomes(asked), ["pending", "pending", "approved"]);
});

test("an answer that is lost: the form and its reason stay, and pressing again decides once", async (t) => {
  const { asked, tab, sent } = await open(t, [mail("ann"), mail("bob")]);
  await pick(tab, "Mail ann").check();
  await pick(tab, "Mail bob").check();
  await tab.locator("#picked-reject").click();
  await tab.locator("#batch-reason").fill("not today");
  let lost = 0;
  await tab.route("**/v1/hitl/decisions", async (route) => {
    if (lost) return route.continue();
    lost += 1;
    await route.fetch();
    return route.abort();
  });
  await tab.keyboard.press(send);
  await tab.locator("#batch-error", { hasText: "Pressing again is safe" }).waitFor();
  await eventually(() => tab.locator("#batch-reason").inputValue(), "not today");
  await tab.locator("#batch-reason").press(send);
  await tab.getByRole("heading", { name: "2 of 2 requests answered" }).waitFor();
  assert.deepEqual(await results(tab), ["Rejected.", "Rejected."]);
  assert.equal(sent.length, 2);
  for (const { request_id: id } of asked) assert.equal((await detail(id)).chain.entries.filter(({ kind }) => kind === "decided").length, 1);
});

test("a hundred of a kind: chosen by one press, no more than a call takes, and decided", async (t) => {
  const agent = await newAgent();
  const asked = await askAll(agent, Array.from({ length: 103 }, (_, n) => mail(`person-${n}`)));
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Mail person-0").waitFor();
  await tab.locator("#list-scroll").evaluate((el) => { el.scrollTop = el.scrollHeight; });
  await row(tab, "Mail person-102").waitFor();
  await tab.locator("#list-scroll").evaluate((el) => { el.scrollTop = 0; });
  await pick(tab, "Mail person-0").check();
  await tab.getByRole("button", { name: "Add 99 more of mail.send" }).click();
  await tab.getByText("100 selected, the most at once").waitFor();
  await pick(tab, "Mail person-1").uncheck();
  await pick(tab, "Mail person-1").check();
  await tab.locator("#picked-approve").click();
  await tab.locator(".batch-list li").nth(99).waitFor();
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "100 of 100 requests answered" }).waitFor();
  assert.equal((await outcomes(asked)).filter((one) => one === "approved").length, 100);
});

test("on a phone: selected by touch, a page of its own, and the way back leads to the list", async (t) => {
  const { asked, tab } = await open(t, [mail("ann"), mail("W".repeat(80))], { viewport: PHONE, hasTouch: true });
  const fits = async (state) => assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, state);
  await tab.locator("#list .pick").first().tap();
  await tab.locator("#list .pick").last().tap();
  await fits("selected");
  assert.ok((await tab.locator("#list .pick").first().boundingBox()).height >= 24);
  await tab.locator("#picked-approve").tap();
  await tab.getByRole("heading", { name: "Approve 2 requests" }).waitFor();
  await tab.locator(".batch-list li").nth(1).waitFor();
  await fits("the actions");
  await tab.goBack();
  await row(tab, "Mail ann").waitFor();
  assert.equal(await tab.locator("#picked strong").innerText(), "2 selected");
  await tab.locator("#picked-approve").tap();
  await tab.locator(".batch-list li").nth(1).waitFor();
  await tab.locator(".batch-form button[type=submit]").tap();
  await tab.getByRole("heading", { name: "2 of 2 requests answered" }).waitFor();
  await fits("the results");
  await tab.locator(".batch-form").getByRole("button", { name: "Done" }).tap();
  await tab.getByText("Nothing matches").waitFor();
  assert.deepEqual(await outcomes(asked), ["approved", "approved"]);
});

test("what was decided meanwhile is no longer selected; another view selects nothing", async (t) => {
  const { agent, asked, tab } = await open(t, [mail("ann"), mail("bob"), mail("cy")]);
  await pick(tab, "Mail ann").check();
  await pick(tab, "Mail bob").check();
  await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}&status=all`);
  await row(tab, "Mail bob").waitFor();
  assert.equal(await tab.locator("#picked").isVisible(), false);
  for (const to of ["ann", "bob", "cy"]) await pick(tab, `Mail ${to}`).check();
  await decide(asked[0].request_id, "reject", "no");
  await eventually(() => tab.locator("#picked strong").innerText(), "2 selected");
  assert.equal(await pick(tab, "Mail ann").count(), 0);
  await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}`); // where what is decided is not listed
  for (const to of ["bob", "cy"]) await pick(tab, `Mail ${to}`).check();
  await decide(asked[1].request_id, "reject", "no");
  await eventually(() => tab.locator("#picked strong").innerText(), "1 selected");
  await tab.locator("#tabs a[data-status=decided]").click();
  await row(tab, "Mail ann").waitFor();
  assert.equal(await tab.locator("#list .pick:visible").count(), 0);
  assert.equal(await tab.locator("#picked").isVisible(), false);
});

test("what the server could not take is sent again by itself, and nothing else is", async (t) => {
  const { asked, tab, sent } = await open(t, [mail("ann"), mail("bob"), mail("cy")]);
  for (const to of ["ann", "bob", "cy"]) await pick(tab, `Mail ${to}`).check();
  await tab.locator("#picked-approve").click();
  await tab.locator(".batch-list li").nth(2).waitFor();
  // The stack took all three; of the second it is said that it could not be taken.
  let first = true;
  await tab.route("**/v1/hitl/decisions", async (route) => {
    if (!first) return route.continue();
    first = false;
    const response = await route.fetch();
    const { results: all } = await response.json();
    const problem = { type: "urn:relaytrace:problem:unavailable", title: "Unavailable", status: 503, detail: "try again", code: "unavailable" };
    return route.fulfill({ response, json: { results: all.map((one, n) => (n === 1 ? { request_id: one.request_id, http_status: 503, problem } : one)) } });
  });
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "2 of 3 requests answered" }).waitFor();
  assert.match((await results(tab))[1], /could not take the answer now\. Pressing again is safe\./);
  await tab.getByRole("button", { name: "Approve 1 again" }).click();
  await tab.getByRole("heading", { name: "3 of 3 requests answered" }).waitFor();
  assert.deepEqual(sent.map((answers) => answers.map(({ request_id: id }) => id)), [asked.map(({ request_id: id }) => id), [asked[1].request_id]]);
  assert.deepEqual(await outcomes(asked), ["approved", "approved", "approved"]);
});

test("without a connection nothing is sent, and the reason stays until it is back", async (t) => {
  const gateway = await newGateway(t);
  const { asked, tab, sent } = await open(t, [mail("ann"), mail("bob")], { at: gateway.base_url });
  for (const to of ["ann", "bob"]) await pick(tab, `Mail ${to}`).check();
  await tab.locator("#picked-reject").click();
  await tab.locator("#batch-reason").fill("kept");
  gateway.cut();
  await tab.locator("#batch-error", { hasText: "Decisions wait until the connection is back." }).waitFor();
  await tab.locator("#batch-reason").press(send);
  assert.equal(sent.length, 0);
  gateway.restore();
  await eventually(() => tab.locator(".batch-form button[type=submit]").getAttribute("aria-disabled"), null);
  await eventually(() => tab.locator("#batch-reason").inputValue(), "kept");
  await tab.locator("#batch-reason").press(send);
  await tab.getByRole("heading", { name: "2 of 2 requests answered" }).waitFor();
  assert.deepEqual(await outcomes(asked), ["rejected", "rejected"]);
});
