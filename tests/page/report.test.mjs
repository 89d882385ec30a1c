// The report for administrators, against the stack: its figures, its views as addresses, and each state that it may be in.

import assert from "node:assert/strict";
import { test } from "node:test";
import { csvOf, inOrder, lasted, parseReport, reportQuery, reportUrl, shareOf, shareWords } from "../../functions/decide/page/report-view.js";
import { check } from "./axe.mjs";
import { eventually, focused, newTab, openPage, PHONE } from "./browser.mjs";
import { answering, forward, newGateway } from "./gateway.mjs";
import { ask, decide, detail, newAgent, personToken, stack } from "./stack.mjs";

const both = personToken({ sub: "report-ada", name: "Ada Report", roles: ["operator", "admin"], groups: ["ops"] });
const adminOnly = personToken({ sub: "report-root", name: "Root", roles: ["admin"] });
const REPORT = "/v1/admin/reports/";

/** The report, as somebody sees it who followed a link to it. */
async function openReport(t, hash = "#report", { as = both, at = stack.base_url, ...options } = {}) {
  const tab = await newTab(t, options);
  await tab.goto(`${at}/#token=${as}`);
  await tab.locator("#operator", { hasText: /\w/ }).or(tab.locator("#gate h2")).first().waitFor();
  await tab.goto(`${at}/${hash}`);
  await tab.getByRole("heading", { name: "Do we decide in time?" }).waitFor();
  return tab;
}
const table = (tab) => tab.locator(".report-table");
const line = (tab, key) => tab.getByRole("row").filter({ has: tab.getByRole("rowheader", { name: key }) });
const cells = (tab, key) => line(tab, key).getByRole("cell").allInnerTexts();

/** An agent of the test's own: two decided in time, one timed out, one taken back, one pending. */
async function sample() {
  const agent = await newAgent();
  const late = await agent.ask({ title: "Nobody answers", respond_by: new Date(Date.now() + 1200).toISOString() });
  for (const decision of ["approve", "reject"]) await decide((await agent.ask()).request_id, decision, "as asked");
  await agent.cancel((await agent.ask()).request_id);
  const waiting = await agent.ask({ title: "Still waits" });
  await eventually(async () => (await detail(late.request_id)).status, "decided");
  return { agent, waiting };
}

test("an administrator comes to it by its tab, and sees each agent's figures as the server counts them", async (t) => {
  const { agent } = await sample();
  const tab = await openPage(t, "", { as: both });
  await tab.locator("#report-tab").click();
  await table(tab).waitFor();
  assert.equal(await tab.locator("#report-tab").getAttribute("aria-current"), "page");
  assert.equal(await tab.locator("#main").isVisible(), false);
  await tab.locator("#report-by").selectOption("Agent");
  await line(tab, agent.agentId).waitFor();
  const [share, ...counts] = await cells(tab, agent.agentId);
  assert.equal(share.trim(), "66.6 %");
  assert.deepEqual(counts.slice(0, 5), ["5", "2", "1", "1", "1"]);
  assert.match(counts[5], /^(under 1|\d+) s$/);
  assert.match(await tab.locator(".report-sum [role=status]").innerText(), /^[\d,]+ asked, [\d,]+ decided in time, [\d,]+ timed out/);
  assert.match(await tab.locator(".report-share").innerText(), /^[\d.]+ % in time$/);
});

test("its view is an address: what is chosen stands in it, and whoever opens it sees the same", async (t) => {
  const { agent, waiting } = await sample();
  const group = `team-${agent.agentId}`;
  await ask(stack.admin, "PUT", `requests/${waiting.request_id}/assignment`, { groups: [group], reason: "theirs" });
  const tab = await openReport(t, "#report");
  await tab.locator("#report-by").selectOption("Group");
  await tab.getByRole("button", { name: "24 hours" }).click();
  await line(tab, group).waitFor();
  assert.equal(await tab.evaluate(() => location.hash), "#report?by=group&last=1");
  await tab.locator("#report-from").fill("2020-01-01");
  await tab.locator("#report-from").dispatchEvent("change");
  await tab.locator(".report-problem", { hasText: "cannot be reported" }).waitFor();
  assert.equal(await table(tab).count(), 0);
  await tab.getByRole("button", { name: "7 days" }).click();
  await line(tab, group).waitFor();
  assert.equal(await tab.locator("#report-from").inputValue(), "");

  const other = await openReport(t, "#report?by=group&last=30");
  await line(other, group).waitFor();
  assert.equal(await other.locator("#report-by").inputValue(), "group");
  assert.equal(await other.getByRole("button", { name: "30 days" }).getAttribute("aria-pressed"), "true");
  await other.locator("#report-by").selectOption("Operator");
  await line(other, stack.operators[1].id).waitFor();
  await other.getByRole("rowheader", { name: "Not decided by an operator" }).waitFor();
  await other.reload();
  await line(other, stack.operators[1].id).waitFor();
  await other.locator("#tabs a", { hasText: "Pending" }).click();
  await other.locator("#list a.row").first().waitFor();
  await other.goBack();
  await line(other, stack.operators[1].id).waitFor();
});

test("from what is pending, and from what runs out of time, a link leads to the requests", async (t) => {
  const { agent } = await sample();
  const urgent = await agent.ask({ title: "Almost over", priority: "P1", respond_by: new Date(Date.now() + 60_000).toISOString() });
  const tab = await openReport(t, "#report?by=agent");
  await tab.locator(".ending a", { hasText: "Almost over" }).waitFor();
  await line(tab, agent.agentId).getByRole("link", { name: "2 pending" }).click();
  await eventually(() => tab.locator("#list a.row .title").allInnerTexts(), ["Almost over", "Still waits"]);
  assert.equal(await tab.locator("#filter-agent").inputValue(), agent.agentId);
  await tab.goBack();
  await tab.locator(".ending a", { hasText: "Almost over" }).focus();
  await tab.keyboard.press("Enter");
  await tab.locator("#detail-title", { hasText: "Almost over" }).waitFor();
  assert.equal(await focused(tab), "detail-title");
  await decide(urgent.request_id, "reject", "over");
});

test("who is no administrator is told so, and who is no operator sees the report without the queue", async (t) => {
  const operators = await openReport(t, "#report", { as: stack.operator.token });
  await operators.getByRole("alert").filter({ hasText: "Only administrators may see the report." }).waitFor();
  assert.equal(await operators.locator("#report-tab").isVisible(), false);
  assert.equal(await operators.locator(".report-controls").isVisible(), false);
  await operators.locator("#tabs a", { hasText: "Pending" }).click();
  await operators.locator("#list").waitFor();

  const { agent } = await sample();
  const tab = await openPage(t, "", { as: adminOnly });
  await tab.getByRole("link", { name: "to the report" }).click();
  await tab.locator("#report-by").selectOption("Agent");
  await line(tab, agent.agentId).waitFor();
  assert.equal((await cells(tab, agent.agentId)).at(5), "1");
  assert.equal(await line(tab, agent.agentId).getByRole("link").count(), 0);
  await tab.getByRole("button", { name: "Copy as CSV" }).waitFor();
});

test("loading, empty, refused, failing and being back are each told", async (t) => {
  const gateway = await newGateway(t);
  const held = [];
  const meet = (how) => { gateway.meet = (call, pass) => (call.url.startsWith(REPORT) ? how(call, pass) : forward(call, pass)); };
  meet((call, pass) => new Promise((done) => { held.push(() => done(forward(call, pass))); }));
  const tab = await openReport(t, "#report?from=2001-01-01T00:00:00.000Z&to=2001-02-01T00:00:00.000Z", { at: gateway.base_url });
  await tab.getByRole("img", { name: "Loading" }).waitFor();
  await check(tab, "loading");
  meet(forward);
  for (const answer of held) answer();
  await tab.getByText("Nothing to report").waitFor();
  assert.equal(await tab.locator(".report-sum [role=status]").innerText(), "Nothing was asked in this period.");
  await check(tab, "empty");

  const problem = (code, detail) => JSON.stringify({ type: `urn:relaytrace:problem:${code}`, title: code, code, detail });
  for (const [status, code, words] of [[403, "forbidden", "Only administrators may see the report."], [404, "not-found", "not served at this address"], [503, "unavailable", "later, please"]]) {
    meet(answering(status, "application/problem+json", problem(code, "later, please")));
    await tab.getByRole("button", { name: "30 days" }).click();
    await tab.getByRole("button", { name: "24 hours" }).click();
    await tab.locator(".report-problem", { hasText: words }).waitFor();
    await check(tab, `refused with ${status}`);
  }
  meet(forward);
  await tab.getByRole("button", { name: "Try again" }).click();
  await table(tab).or(tab.getByText("Nothing to report")).waitFor();
  await eventually(() => tab.locator(".report-problem").innerText(), "");
});

for (const [where, viewport] of [["wide", undefined], ["360 px wide", PHONE]]) {
  test(`axe finds nothing in the report, nothing is wider than the window, and the keyboard reaches all of it, ${where}`, async (t) => {
    const agent = await newAgent(`page-${"w".repeat(40)}-${Date.now()}`.slice(0, 63));
    await agent.ask({ title: "\u202Eesrever <img src=x onerror=alert(1)>".padEnd(180, "W"), respond_by: new Date(Date.now() + 60_000).toISOString(), priority: "P1" });
    const tab = await openReport(t, "#report?by=agent", viewport && { viewport });
    await line(tab, agent.agentId).waitFor();
    for (const by of ["Agent", "Priority", "Group", "Operator"]) {
      await tab.locator("#report-by").selectOption(by);
      await table(tab).waitFor();
      await check(tab, by);
      assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector(".report").scrollWidth <= document.querySelector(".report").clientWidth), true, by);
    }
    assert.equal(await tab.locator("#report img:not([role])").count(), 0);
    await tab.locator("#skip").focus();
    await tab.keyboard.press("Enter");
    await eventually(() => focused(tab), "report-heading");
    const reached = [];
    for (let n = 0; n < 400 && reached.at(-1) !== "report-csv"; n += 1) {
      await tab.keyboard.press("Tab");
      reached.push(await tab.evaluate(() => document.activeElement.id || document.activeElement.textContent));
    }
    for (const one of ["report-by", "24 hours", "7 days", "report-from", "report-to", "report-csv"]) assert.ok(reached.includes(one), `${one} in ${reached}`);
    // Letters of the queue do nothing here.
    await tab.keyboard.press("j");
    await tab.keyboard.press("a");
    assert.equal(await tab.locator(".report-table").isVisible(), true);
  });
}

test("addresses, shares, times and CSV", () => {
  const usual = { by: "priority", last: 7, from: "", to: "" };
  for (const hash of ["#report", "#report?", "#report?by=nothing&last=8&from=x&more=1"]) assert.deepEqual(parseReport(hash), usual, hash);
  for (const hash of ["", "#rules", "#reports", "#rules/report"]) assert.equal(parseReport(hash), null, hash);
  for (const view of [usual, { ...usual, by: "group", last: 90 }, { ...usual, from: "2026-11-01T00:00:00.000Z" }]) assert.deepEqual(parseReport(reportUrl(view)), view);
  const at = Date.parse("2026-11-27T12:00:30Z");
  assert.equal(reportQuery(usual, "agent", at), "by=agent&from=2026-11-20T12%3A00%3A00.000Z");
  assert.equal(reportQuery({ ...usual, to: "2026-11-01T00:00:00Z" }, "agent", at), "by=agent&from=2026-10-25T00%3A00%3A00.000Z&to=2026-11-01T00%3A00%3A00Z");
  assert.deepEqual([[1, 0], [999, 1], [9999, 1], [0, 1], [0, 0]].map(([decided_in_time, timed_out]) => shareWords(shareOf({ decided_in_time, timed_out }))), ["100 %", "99.9 %", "99.9 %", "0 %", "–"]);
  assert.deepEqual([null, 0.2, 4.4, 59.6, 200, 7500, 270_000].map(lasted), ["–", "under 1 s", "4 s", "1 min 0 s", "3 min 20 s", "2 h 5 min", "3 d 3 h"]);
  const counts = { asked: 3, decided_in_time: 1, timed_out: 1, cancelled: 0, pending: 1, p50_seconds: 1.5, p90_seconds: null };
  assert.equal(csvOf("operator", [{ key: '=HYPERLINK("x")', ...counts }, { key: null, ...counts }]),
    `operator,asked,decided_in_time,timed_out,cancelled,pending,p50_seconds,p90_seconds\r\n"'=HYPERLINK(""x"")",3,1,1,0,1,1.5,\r\n,3,1,1,0,1,1.5,\r\n`);
  assert.deepEqual(inOrder("priority", [{ key: "P2" }, { key: "P1" }]).map(({ key }) => key), ["P1", "P2"]);
});
