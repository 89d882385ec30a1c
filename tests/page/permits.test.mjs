// What becomes of an approval: its permit, its use and its outcome, live and in the trace.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, openPage, row } from "./browser.mjs";
import { describing } from "./gateway.mjs";
import { decide, newAgent, sql } from "./stack.mjs";

/** An approved request, and the page with it. */
async function approved(t, { at, changes } = {}) {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Permitted", ...changes });
  await decide(asked.request_id, "approve");
  const { request_id: id, action_digest: digest } = asked;
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${id}`, { at: await at?.(id) });
  await tab.locator(".execution").waitFor();
  const words = () => tab.locator(".execution").innerText().then((text) => text.replace(/\d+ (s|min)/g, "n $1").replaceAll(agent.keyId, "its key"));
  return { agent, tab, words, id, use: () => agent.consume(id, digest) };
}

test("a permit is told live from the decision to its outcome, without losing the place; the trace has each step", async (t) => {
  const { agent, tab, words, id, use } = await approved(t);
  const title = tab.locator("#detail-title");
  await title.focus();
  assert.match(await words(), /^Not used yet\. The agent may carry it out once, until in n min\.$/);
  await tab.locator(".detail-scroll").evaluate((el) => { el.scrollTop = 40; });
  const place = await tab.locator(".detail-scroll").evaluate((el) => el.scrollTop);
  await use();
  await eventually(async () => /^Being carried out: the permit was used by its key (just now|n s ago)\. No outcome is reported yet\.$/.test(await words()), true);
  await agent.report(id, "succeeded", { note: "paid out as <b>55</b>" });
  await eventually(async () => /^Carried out: the agent reported success (just now|n s ago)\. paid out as <b>55<\/b>$/.test((await words()).replace(/["“”]/g, "")), true);
  const steps = await tab.locator(".trace li strong").allInnerTexts();
  assert.deepEqual(steps.filter((step) => /Permit|Outcome/.test(step)), ["Permit used", "Outcome: succeeded"]);
  assert.equal(await tab.evaluate(() => document.activeElement.id), "detail-title");
  assert.equal(await tab.locator(".detail-scroll").evaluate((el) => el.scrollTop), place);
  assert.match(await row(tab, "Permitted").innerText(), /carried out/);
});

test("a permit that ran out was never used", async (t) => {
  const { tab, words, id } = await approved(t);
  sql("UPDATE hitl_requests SET permit_expires_at = now() - interval '1 minute', changed_at = now() WHERE request_id = %s", id);
  await eventually(async () => (await words()).startsWith("Never used: the permit ran out n min ago."), true);
  await eventually(async () => /never used/.test(await row(tab, "Permitted").innerText()), true);
});

test("a failure that the agent reports is told where its approval is read, and in the list", async (t) => {
  const { agent, tab, words, id, use } = await approved(t);
  await use();
  await agent.report(id, "failed", { note: "the card has expired" });
  await eventually(async () => /^Not carried out as approved: the agent reported a failure [^]*the card has expired/.test(await words()), true);
  assert.equal(await tab.locator("#outcome").getAttribute("data-outcome"), "failed");
  await row(tab, "approved, failed").waitFor();
});

/** What no stack of today says: an execution and a later entry that a proxy adds. */
const saying = (t, execution, entry) => async (id) => (await describing(t, { [id]: ({ chain }) => ({ execution, ...(chain && {
  chain: { ...chain, entries: [...chain.entries, { seq: chain.length + 1, at: new Date().toISOString(), hash: `sha256:${"ab".repeat(32)}`, ...entry }] } }) }) })).base_url;

test("a use without a report is told as not known", async (t) => {
  const { tab, words, id, use } = await approved(t);
  await use();
  sql("UPDATE outcomes_due SET due_at = now() WHERE request_id = %s", id); // the time is over; the sweep says the rest
  await eventually(async () => /^It is not known what became of it: the permit was used by its key [^]*no outcome was reported in time\.$/.test(await words()), true);
  assert.match(await tab.locator(".trace").innerText(), /Outcome: unknown/);
});

test("what this page does not know yet is shown by its name", async (t) => {
  const { tab, words } = await approved(t, { at: saying(t, "teleported", { kind: "beamed\u202E", actor: { kind: "agent", id: "x" } }) });
  await eventually(words, "Execution: teleported");
  assert.match(await tab.locator(".trace").innerText(), /beamed\s*U\+202E/);
});
