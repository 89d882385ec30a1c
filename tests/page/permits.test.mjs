// What becomes of an approval: its permit, its use and its outcome, live and in the trace.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, openPage, row } from "./browser.mjs";
import { describing } from "./gateway.mjs";
import { decide, newAgent } from "./stack.mjs";

/** An approved request whose `now` (execution, permit, later chain entries) may be changed at any time. */
async function approved(t) {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Permitted" });
  await decide(asked.request_id, "approve");
  const now = { execution: "waiting", permit: { expires_at: new Date(Date.now() + 3_600_000).toISOString() }, entries: [] };
  const gateway = await describing(t, { [asked.request_id]: ({ chain }) => ({ execution: now.execution, ...(chain && {
    permit: now.permit, chain: { ...chain, entries: [...chain.entries, ...now.entries.map((entry, n) => ({ seq: 3 + n, at: new Date().toISOString(), hash: `sha256:${"ab".repeat(32)}`, ...entry }))] } }) }) });
  const tab = await openPage(t, `?status=decided&agent_id=${agent.agentId}&id=${asked.request_id}`, { at: gateway.base_url });
  await tab.locator(".execution").waitFor();
  const words = () => tab.locator(".execution").innerText().then((text) => text.replace(/\d+ (s|min)/g, "n $1"));
  return { agent, now, tab, words };
}

const consumed = { kind: "consumed", actor: { kind: "agent", id: "billing" }, details: { consumed_by: "billing-key" } };
const outcome = (state, note) => ({ kind: "outcome", actor: { kind: "agent", id: "billing" }, details: { state, ...(note && { note }) } });

test("a permit is told live from the decision to its outcome, without losing the place; the trace has each step", async (t) => {
  const { now, tab, words } = await approved(t);
  const title = tab.locator("#detail-title");
  await title.focus();
  assert.match(await words(), /^Not used yet\. The agent may carry it out once, until in n min\.$/);
  await tab.locator(".detail-scroll").evaluate((el) => { el.scrollTop = 40; });
  const place = await tab.locator(".detail-scroll").evaluate((el) => el.scrollTop);
  Object.assign(now, { execution: "consumed", entries: [consumed] });
  await eventually(async () => /^Being carried out: the permit was used by billing-key (just now|n s ago)\. No outcome is reported yet\.$/.test(await words()), true);
  Object.assign(now, { execution: "succeeded", entries: [consumed, outcome("succeeded", "paid out as <b>55</b>")] });
  await eventually(async () => /^Carried out: the agent reported success (just now|n s ago)\. paid out as <b>55<\/b>$/.test((await words()).replace(/["“”]/g, "")), true);
  const steps = await tab.locator(".trace li strong").allInnerTexts();
  assert.deepEqual(steps.filter((step) => /Permit|Outcome/.test(step)), ["Permit used", "Outcome: succeeded"]);
  assert.equal(await tab.evaluate(() => document.activeElement.id), "detail-title");
  assert.equal(await tab.locator(".detail-scroll").evaluate((el) => el.scrollTop), place);
  assert.match(await row(tab, "Permitted").innerText(), /carried out/);
});

test("unused, failed, unknown, and what this page does not know yet", async (t) => {
  const { now, tab, words } = await approved(t);
  Object.assign(now, { execution: "unused", permit: { expires_at: new Date(Date.now() - 60_000).toISOString() } });
  await eventually(async () => (await words()).startsWith("Never used: the permit ran out n min ago."), true);
  Object.assign(now, { execution: "failed", entries: [consumed, outcome("failed", "the card has expired")] });
  await eventually(async () => /^Not carried out as approved: the agent reported a failure [^]*the card has expired/.test(await words()), true);
  assert.equal(await tab.locator("#outcome").getAttribute("data-outcome"), "failed");
  await row(tab, "approved, failed").waitFor();
  Object.assign(now, { execution: "unknown", entries: [consumed, outcome("unknown")] });
  await eventually(async () => /^It is not known what became of it: the permit was used by billing-key [^]*no outcome was reported in time\.$/.test(await words()), true);
  assert.match(await tab.locator(".trace").innerText(), /Outcome: unknown/);
  Object.assign(now, { execution: "teleported", entries: [{ kind: "beamed\u202E", actor: { kind: "agent", id: "x" } }] });
  await eventually(words, "Execution: teleported");
  assert.match(await tab.locator(".trace").innerText(), /beamed\s*U\+202E/);
});
