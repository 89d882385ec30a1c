// Point 15 and the phone: axe-core in every state, light and dark; the keyboard alone; zoom and reduced motion.

import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "../../functions/decide/page/digest.js";
import { check } from "./axe.mjs";
import { eventually, focused, newTab, openPage, PHONE, row } from "./browser.mjs";
import { newGateway } from "./gateway.mjs";
import { answer, ask, askAll, decide, detail, needApprovals, newAgent, personToken, sql, stack } from "./stack.mjs";

async function sample() {
  const agent = await newAgent();
  const asked = await askAll(agent, [
    { title: "Roll back checkout", priority: "P1", action: { type: "deploy.rollback", arguments: { to: "4.18.2", nested: { list: [1, true, null] } } },
      summary: "# Why\n\n**Errors** rose. [Graph](https://graphs.example/1)\n\n```\ncode\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |",
      context: { error_rate: [0.2, 6.1], deep: { deeper: { deepest: { bottom: 1 } } }, note: "\u202Ehidden" } },
    { title: "Refund", respond_by: new Date(Date.now() + 1500).toISOString() }, { title: "Delete artefacts" }, { title: "Write off", priority: "P3" },
  ]);
  await decide(asked[2].request_id, "reject", "Not today");
  await eventually(async () => (await detail(asked[1].request_id)).status, "decided");
  return { agent, asked };
}

for (const [where, viewport] of [["wide", undefined], ["360 px wide", PHONE]]) {
  test(`axe finds nothing in any state, light or dark, ${where}`, async (t) => {
    const { agent, asked } = await sample();
    const gateway = await newGateway(t);
    const options = { at: gateway.base_url, ...(viewport && { viewport }) };
    const tab = await newTab(t, options);
    await tab.goto(gateway.base_url);
    await tab.getByRole("heading", { name: "Sign in" }).waitFor();
    await tab.getByLabel("Token").fill("x");
    await tab.keyboard.press("Enter");
    await check(tab, "signed out, with a mistake");

    await tab.goto(`${gateway.base_url}/?agent_id=${agent.agentId}&status=all#token=${personToken({}, 200)}`);
    await tab.reload();
    await row(tab, "Roll back").waitFor();
    await check(tab, "the list, with a sign-in about to end");
    await tab.goto(`${gateway.base_url}/?agent_id=none`);
    await tab.getByText("Nothing matches").waitFor();
    await check(tab, "no match");

    const show = async (n, status = "pending") => {
      await tab.goto(`${gateway.base_url}/?agent_id=${agent.agentId}&status=${status}&id=${asked[n].request_id}`);
      await tab.locator("#detail-title").waitFor();
    };
    await show(0);
    await tab.locator(".check[data-state=match]").waitFor();
    await tab.locator("summary").first().click();
    await check(tab, "a request");
    await tab.locator("#approve").click();
    await tab.keyboard.press("ControlOrMeta+Enter");
    await check(tab, "approving a P1, not confirmed");
    await tab.keyboard.press("Escape");
    await tab.locator("#reject").click();
    await tab.getByRole("button", { name: "Against policy" }).click();
    await check(tab, "rejecting");
    gateway.cut();
    await tab.getByRole("alert").filter({ hasText: "Nothing can be decided" }).waitFor();
    await check(tab, "connection lost");
    gateway.restore();
    await eventually(() => tab.locator("#link-state").innerText(), "Live");
    await show(1, "all");
    await check(tab, "timed out");
    await show(2, "decided");
    await check(tab, "rejected by another");
    await tab.goto(`${gateway.base_url}/?id=01890000-0000-7000-8000-000000000000`);
    await tab.getByText("No such request").waitFor();
    await check(tab, "no such request");
    await tab.keyboard.press("?");
    await check(tab, "the keys");
    await tab.keyboard.press("Escape");
    await tab.locator("#operator").click();
    await check(tab, "the settings");
    await tab.getByRole("dialog").getByRole("button", { name: "Sign in again" }).click();
    await check(tab, "signing in again");
    await tab.keyboard.press("Escape");
    const other = await openPage(t, "", { ...options, as: personToken({ roles: [] }) });
    await other.getByRole("heading", { name: "No access" }).waitFor();
    await check(other, "no access");
  });
}

for (const [where, viewport] of [["wide", undefined], ["360 px wide", PHONE]]) {
  test(`axe finds nothing while an answer is written or a group is read, nor after it, ${where}`, async (t) => {
    const agent = await newAgent();
    const action = { type: "refund.create", arguments: { amount: "12.00", currency: "EUR", lines: [{ sku: "a" }, { sku: "b" }], hidden: "a\u200Bb" } };
    const schema = { type: "object", required: ["amount"], properties: { amount: { type: "string", title: "Amount", description: "What the customer gets" }, currency: { enum: ["EUR", "USD"] }, count: { type: "integer" } } };
    const offer = { answers: ["approve", "reject", "edit", "respond"], edit_schema: schema, respond_schema: schema };
    const asked = await askAll(agent, [{ title: "Open", action, group: "turn" }, { title: "Its sibling", action, priority: "P1", group: "turn" }, { title: "Edited", action }, { title: "Responded", respond_schema: {} }].map((one) => ({ ...offer, ...one })));
    const instead = { ...action.arguments, amount: "8.00" };
    await answer(asked[2].request_id, { decision: "edit", arguments: instead, edited_action_digest: await digestOf({ ...action, arguments: instead }) });
    await agent.consume(asked[2].request_id, await digestOf({ ...action, arguments: instead }));
    await answer(asked[3].request_id, { decision: "respond", response: "Ask again" });
    const tab = await newTab(t, viewport && { viewport });
    const show = async (n, ready) => {
      await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}&status=all&id=${asked[n].request_id}#token=${stack.operators[0].token}`);
      await tab.reload();
      await tab.locator(ready).first().waitFor();
    };
    await show(0, ".group-list li");
    await check(tab, "a group");
    await tab.locator("#edit").click();
    await tab.locator(".answer-form").getByLabel("amount Amount").fill("8.00");
    await tab.locator(".answer-form").getByLabel("count (optional)").fill("x");
    await tab.getByText("This is not a number.").waitFor();
    await check(tab, "an edit with a fault");
    await tab.locator(".answer-form").getByLabel("count (optional)").fill("3");
    await tab.locator(".changes-list").waitFor();
    await check(tab, "an edit with its difference");
    await tab.getByRole("button", { name: "As JSON" }).click();
    await check(tab, "an edit as JSON");
    await tab.keyboard.press("Escape");
    await tab.locator("#respond").click();
    await check(tab, "a response");
    await tab.keyboard.press("Escape");
    await tab.getByRole("button", { name: "Reject all 2" }).click();
    await tab.locator("#batch-reason").waitFor();
    await check(tab, "an answer to a group");
    await show(2, ".sides");
    await check(tab, "an edited action beside the asked one");
    await show(3, ".response");
    await check(tab, "a response that was given");
    sql("DELETE FROM request_envelopes WHERE request_id = %s", asked[2].request_id);
    await show(2, ".erased");
    await check(tab, "an edited action whose envelope was erased");
  });
}

for (const [where, viewport] of [["wide", undefined], ["360 px wide", PHONE]]) {
  test(`axe finds nothing while several people decide, nor while several requests are answered, ${where}`, async (t) => {
    const agent = await newAgent();
    await needApprovals(agent, 3);
    const [ann, ben] = stack.operators;
    const mail = (to) => ({ title: `Mail ${to}`, action: { type: "mail.send", arguments: { to } } });
    const asked = await askAll(agent, [mail("ann"), mail("bob"), mail("cy"), { ...mail("dee"), priority: "P1" }]);
    const approve = ({ request_id: id, action_digest }, person) => answer(id, { decision: "approve", action_digest }, person.token);
    await approve(asked[0], ben);
    await approve(asked[2], ann);
    await ask(ben, "PUT", `requests/${asked[0].request_id}/claim`, { seconds: 600 });
    const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[0].request_id}`, viewport && { viewport });
    await tab.locator("#take-over").waitFor();
    await tab.locator(".check[data-state=match]").waitFor();
    await check(tab, "a request with votes that another is at");
    await tab.locator("#reroute").click();
    await tab.getByRole("button", { name: "Reroute", exact: true }).click();
    await check(tab, "rerouting, with a mistake");
    await tab.keyboard.press("Escape");
    await tab.locator("#operator").click();
    await tab.locator("#delegations").click();
    await tab.locator(".delegations li").first().waitFor();
    await tab.getByRole("button", { name: "Delegate", exact: true }).click();
    await check(tab, "delegations, with a mistake");
    await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}`);
    for (const to of ["ann", "bob", "cy", "dee"]) await tab.getByRole("checkbox", { name: `Select Mail ${to}` }).check();
    await check(tab, "four selected, one of them a P1");
    await tab.getByRole("checkbox", { name: "Select Mail dee" }).uncheck();
    await tab.locator("#picked-approve").click();
    await tab.locator(".batch-out li").waitFor();
    await check(tab, "an answer to several, one of them left out");
    await tab.keyboard.press("ControlOrMeta+Enter");
    await tab.getByText("2 of 2 requests answered").waitFor();
    await check(tab, "what became of each");
  });
}

test("by keyboard alone, from signing in to the decision", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "By keyboard" });
  const tab = await newTab(t);
  await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}`);
  await tab.getByRole("heading", { name: "Sign in" }).waitFor();
  await tab.keyboard.insertText(stack.operators[0].token); // the field has the focus
  await tab.keyboard.press("Enter");
  await row(tab, "By keyboard").waitFor();
  // With Tab and Enter only, without the letters.
  for (let presses = 0; !/row/.test(await focused(tab)); presses += 1) {
    assert.ok(presses < 15, "the list cannot be reached by Tab");
    await tab.keyboard.press("Tab");
    assert.equal(await tab.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return document.activeElement === document.body || (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2);
    }), true, "the focus is in sight");
  }
  await tab.keyboard.press("Enter");
  await eventually(() => focused(tab), "detail-title");
  for (let presses = 0; await focused(tab) !== "reject"; presses += 1) {
    assert.ok(presses < 15, "Reject cannot be reached by Tab");
    await tab.keyboard.press("Tab");
  }
  await tab.keyboard.press("Enter");
  assert.equal(await focused(tab), "reason");
  await tab.keyboard.type("no need");
  await tab.keyboard.press("Tab");
  await tab.keyboard.press("Enter");
  await tab.locator(".toast").waitFor();
  assert.equal((await detail(asked.request_id)).decision.reason, "no need");
});

test("changes are told to a screen reader, once each", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Listened to" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`);
  await tab.locator("#approve").waitFor();
  await tab.evaluate(() => {
    window.said = [];
    const listen = new MutationObserver((changes) => { for (const { target } of changes) window.said.push((target.closest?.("[aria-live]") ?? target.parentElement.closest("[aria-live]")).textContent); });
    for (const region of document.querySelectorAll("[aria-live]")) listen.observe(region, { childList: true, characterData: true, subtree: true });
  });
  await agent.ask({ title: "A P1", priority: "P1" });
  await eventually(() => tab.evaluate(() => window.said), ["1 new request, 1 of them P1"]);
  await decide(asked.request_id, "approve", "fine");
  await eventually(() => tab.evaluate(() => window.said.at(-1)), "This request is now approved by Jonas K..");
});

test("at 360 px and at 400 % zoom everything can be read and pressed without scrolling sideways", async (t) => {
  const { agent, asked } = await sample();
  for (const viewport of [PHONE, { width: 320, height: 256 }]) {
    const tab = await openPage(t, `?agent_id=${agent.agentId}`, { viewport, hasTouch: true });
    await row(tab, "Roll back").waitFor();
    const fits = () => tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
    assert.ok(await fits());
    const small = await tab.locator("button:visible, a:visible, input:visible").evaluateAll((all) => all
      .filter((el) => el.getBoundingClientRect().height < 24 && !el.closest("p, .sr") && !el.classList.contains("skip")).map((el) => el.outerHTML));
    assert.deepEqual(small, []); // WCAG 2.5.8
    await row(tab, "Roll back").click();
    await tab.locator("#detail-title").waitFor();
    assert.ok(await fits());
    await tab.locator("#approve").scrollIntoViewIfNeeded();
    await tab.locator("#approve").click();
    await tab.locator("#confirm-type").fill("deploy.rollback");
    await tab.locator(".composer button[type=submit]").scrollIntoViewIfNeeded();
    assert.ok(await fits());
    await tab.keyboard.press("Escape");
    await tab.goBack();
    await row(tab, "Roll back").waitFor();
  }
  assert.equal((await detail(asked[0].request_id)).status, "pending");
});

test("whoever wants no motion gets none", async (t) => {
  const agent = await newAgent();
  const tab = await openPage(t, `?agent_id=${agent.agentId}`, { reducedMotion: "reduce" });
  await tab.getByText("Nothing matches").waitFor();
  await agent.ask({ title: "Comes in" });
  await row(tab, "Comes in").waitFor();
  assert.equal(await tab.evaluate(() => document.getAnimations().length), 0);
});
