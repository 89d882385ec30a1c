// Points 1, 2, 3, 9 and 13: the list, its views, its order, what changes in it, and its states.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, newTab, openPage, PHONE, row, rows, titles } from "./browser.mjs";
import { answering, newGateway } from "./gateway.mjs";
import { askAll, call, decide, newAgent, sql, stack } from "./stack.mjs";

const soon = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();

test("the list keeps its place beside the request that is read", async (t) => {
  const agent = await newAgent();
  await askAll(agent, Array.from({ length: 40 }, (_, n) => ({ title: `Number ${n + 1}` })));
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Number 1").first().waitFor();
  const scroll = tab.locator("#list-scroll");
  await scroll.evaluate((el) => { el.scrollTop = 700; });
  await row(tab, "Number 16").click();
  await tab.getByRole("heading", { name: "Number 16" }).waitFor();
  assert.equal(await scroll.evaluate((el) => el.scrollTop), 700);
  // What comes above does not move what is read.
  const before = await row(tab, "Number 16").boundingBox();
  await agent.ask({ title: "More urgent", priority: "P1" });
  await eventually(() => tab.locator("#list li").first().getAttribute("aria-setsize"), "41");
  assert.equal((await row(tab, "Number 16").boundingBox()).y, before.y);
  await scroll.evaluate((el) => { el.scrollTop = 0; });
  await row(tab, "More urgent").waitFor();
});

test("on a phone there is one column, and going back finds the place again", async (t) => {
  const agent = await newAgent();
  await askAll(agent, Array.from({ length: 30 }, (_, n) => ({ title: `Number ${n + 1}` })));
  const tab = await openPage(t, `?agent_id=${agent.agentId}`, { viewport: PHONE });
  await row(tab, "Number 1").first().waitFor();
  await tab.locator("#list-scroll").evaluate((el) => { el.scrollTop = 600; });
  await row(tab, "Number 14").click();
  await tab.getByRole("heading", { name: "Number 14" }).waitFor();
  assert.equal(await tab.locator("#list-pane").isVisible(), false);
  await tab.getByRole("link", { name: "Requests" }).click();
  await row(tab, "Number 14").waitFor();
  assert.equal(await tab.locator("#detail-pane").isVisible(), false);
  assert.equal(await tab.locator("#list-scroll").evaluate((el) => el.scrollTop), 600);
});

test("tabs, filters and the open request are in the address, and an address opens them again", async (t) => {
  const agent = await newAgent();
  const [, , third] = await askAll(agent, [{ title: "Alpha", priority: "P3" }, { title: "Beta", priority: "P1" }, { title: "Gamma beta" }, { title: "Delta" }]);
  await decide(third.request_id, "approve");
  const tab = await openPage(t);
  await tab.getByLabel("Agent").fill(agent.agentId);
  await eventually(() => titles(tab), ["Beta", "Delta", "Alpha"]);
  await tab.getByRole("link", { name: "All", exact: true }).click();
  await eventually(() => titles(tab), ["Beta", "Gamma beta", "Delta", "Alpha"]);
  await tab.getByLabel("Search text").fill("beta");
  await eventually(() => titles(tab), ["Beta", "Gamma beta"]);
  await tab.getByRole("button", { name: /^P2/ }).click();
  await eventually(() => titles(tab), ["Gamma beta"]);
  await row(tab, "Gamma beta").click();
  await tab.getByRole("heading", { name: "Gamma beta" }).waitFor();
  const address = new URL(tab.url());
  assert.equal(address.search, `?status=all&priority=P2&agent_id=${agent.agentId}&q=beta&id=${third.request_id}`);
  assert.equal(address.hash, "");

  const colleague = await openPage(t, address.search, { as: stack.operators[3].token });
  await colleague.getByRole("heading", { name: "Gamma beta" }).waitFor();
  await eventually(() => titles(colleague), ["Gamma beta"]);
  assert.equal(await colleague.getByLabel("Search text").inputValue(), "beta");
  await colleague.getByRole("link", { name: "Decided" }).click();
  await colleague.goBack();
  await colleague.getByRole("heading", { name: "Gamma beta" }).waitFor();
});

test("opening links changes nothing, whatever they say", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask();
  const calls = [];
  const gateway = await newGateway(t);
  const { meet } = gateway;
  gateway.meet = (incoming, pass) => { calls.push(`${incoming.method} ${incoming.url}`); return meet(incoming, pass); };
  const tab = await openPage(t, `?id=${asked.request_id}&decision=approve&reason=x&action=approve`, { at: gateway.base_url });
  await tab.locator("#approve").waitFor();
  await tab.reload();
  await tab.locator("#approve").waitFor();
  assert.deepEqual(calls.filter((one) => !one.startsWith("GET ")), []);
  const answer = await call(`/v1/hitl/requests/${asked.request_id}`, { token: stack.operator.token });
  assert.equal(answer.json.status, "pending");
});

test("the order is priority, then time left; what is urgent stands out, what is over is grey and says so", async (t) => {
  const agent = await newAgent();
  await askAll(agent, [
    { title: "Later", respond_by: soon(3000) }, { title: "Lowest", priority: "P3", respond_by: soon(60) },
    { title: "Sooner", respond_by: soon(2000) }, { title: "First", priority: "P1" },
  ]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await eventually(() => titles(tab), ["First", "Sooner", "Later", "Lowest"]);
  const shown = await rows(tab).evaluateAll((all) => all.map((el) => [el.querySelector(".priority").textContent, el.dataset.urgency]));
  assert.deepEqual(shown, [["P1", "calm"], ["P2", "calm"], ["P2", "calm"], ["P3", "calm"]]);
  const color = (title) => row(tab, title).locator(".priority").evaluate((el) => getComputedStyle(el).color);
  assert.notEqual(await color("First"), await color("Sooner"));
  assert.notEqual(await color("Sooner"), await color("Lowest"));
  const left = () => row(tab, "Lowest").locator(".left").innerText();
  const first = await left();
  assert.match(first, /^0:\d\d$|^1:00$/);
  await eventually(async () => (await left()) !== first, true, "a live countdown");
});

test("a countdown under a tenth stands out, and at its end the request is over and cannot be decided", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Nearly over", respond_by: soon(600) });
  const gateway = await newGateway(t);
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { at: gateway.base_url });
  await tab.locator("#approve").waitFor();
  // The server's clock is what counts: the same answer, 550 s and then 601 s later.
  const laterBy = (seconds) => async ({ response }, pass) => {
    const answer = await pass();
    const date = new Date(Date.now() + seconds * 1000).toUTCString();
    response.writeHead(answer.status, { ...answer.headers, date }).end(answer.body);
  };
  gateway.meet = laterBy(550);
  await eventually(() => row(tab, "Nearly over").getAttribute("data-urgency"), "urgent");
  await eventually(() => tab.locator(".clock").getAttribute("data-urgency"), "urgent");
  gateway.meet = laterBy(601);
  await eventually(() => row(tab, "Nearly over").locator(".left").innerText(), "expired");
  await eventually(() => tab.locator(".clock").innerText(), "time is over");
  assert.equal(await tab.locator("#approve").getAttribute("aria-disabled"), "true");
  await tab.getByText("an answer no longer counts").waitFor();
  await tab.keyboard.press("a");
  assert.equal(await tab.locator(".composer").isVisible(), false);
});

test("new requests and others' decisions appear by themselves, without losing focus", async (t) => {
  const agent = await newAgent();
  const [first] = await askAll(agent, [{ title: "One" }, { title: "Two" }]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Two").waitFor();
  await tab.keyboard.press("j");
  await tab.keyboard.press("j");
  await tab.getByRole("heading", { name: "Two" }).waitFor();
  await tab.locator("#filter-q").focus();
  await agent.ask({ title: "Three" });
  await eventually(() => titles(tab), ["One", "Two", "Three"]);
  await decide(first.request_id, "reject", "no");
  await eventually(() => titles(tab), ["Two", "Three"]);
  assert.equal(await tab.evaluate(() => document.activeElement.id), "filter-q");
  await tab.getByText("1 new request").waitFor({ state: "attached" });
  // Row focus survives too, and goes on to a neighbour where the row itself goes.
  await row(tab, "Two").focus();
  await agent.ask({ title: "Before all", priority: "P1" });
  await eventually(() => titles(tab), ["Before all", "Two", "Three"]);
  assert.match(await tab.evaluate(() => document.activeElement.textContent), /Two/);
});

test("what waits is counted in the title and on the icon", async (t) => {
  const gateway = await newGateway(t);
  const waiting = (pending) => answering(200, "application/json", JSON.stringify({ items: [], next_cursor: null, counts: { pending, P1: 0, P2: pending, P3: 0 } }));
  gateway.meet = waiting(3);
  const tab = await openPage(t, "", { at: gateway.base_url });
  const shown = async () => [await tab.title(), await tab.locator("#pending-count").innerText(), await tab.locator("link[rel=icon]").getAttribute("href")];
  await eventually(shown, ["(3) RelayTrace", "3", "page/waiting-3.svg"]);
  gateway.meet = waiting(12);
  await eventually(shown, ["(12) RelayTrace", "12", "page/waiting-many.svg"]);
  gateway.meet = waiting(0);
  await eventually(shown, ["RelayTrace", "0", "page/favicon.svg"]);
  for (const name of ["waiting-1", "waiting-9", "waiting-many", "favicon"]) {
    const answer = await call(`/page/${name}.svg`);
    assert.deepEqual([answer.status, answer.headers.get("content-type")], [200, "image/svg+xml"]);
  }
});

test("alerts are for who wants them: a sound and a notification for a new P1, without its arguments or title", async (t) => {
  const agent = await newAgent();
  await agent.ask({ title: "Was there before", priority: "P1" });
  const tab = await newTab(t, { permissions: ["notifications"] });
  // Other tests ask P1 requests too, and those of one second make one notification: this page alerts to its own agent's only.
  const ofAlerts = (url) => url.searchParams.get("priority") === "P1";
  await tab.route(ofAlerts, (route) => route.continue({ url: `${route.request().url()}&agent_id=${agent.agentId}` }));
  const looked = () => tab.waitForResponse((response) => ofAlerts(new URL(response.url())));
  await tab.addInitScript(() => {
    window.told = [];
    window.tones = 0;
    window.Notification = class { constructor(title, options) { window.told.push({ title, ...options, it: this }); } close() {} static requestPermission() { return Promise.resolve("granted"); } };
    document.hasFocus = () => false;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...args) { window.tones += 1; return start.apply(this, args); };
  });
  const open = async () => { await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}#token=${stack.operator.token}`); await row(tab, "Was there before").waitFor(); };
  const told = () => tab.evaluate(() => window.told.map(({ title, body }) => ({ title, body })));
  await open();
  await agent.ask({ title: "Not told", priority: "P1" });
  await row(tab, "Not told").waitFor();
  assert.deepEqual(await told(), []);
  await tab.locator("#operator").click();
  const first = looked();
  await tab.getByLabel(/Alert me to new P1 requests/).check();
  await tab.keyboard.press("Escape");
  await first; // what waits by now is no news
  const tones = await tab.evaluate(() => window.tones);
  assert.ok(tones > 0); // as a sample
  await agent.ask({ title: "No alert for a P2", priority: "P2" });
  await row(tab, "No alert for a P2").waitFor();
  await looked();
  assert.deepEqual(await told(), []);
  const asked = await agent.ask({ title: "Secret title 4711", priority: "P1", action: { type: "deploy.rollback", arguments: { secret: "4711" } } });
  await eventually(told, [{ title: "P1: deploy.rollback", body: `${agent.agentId} asks, 14 minutes left` }]);
  assert.ok(await tab.evaluate(() => window.tones) > tones);
  await tab.evaluate(() => window.told[0].it.onclick());
  await tab.getByRole("heading", { name: "Secret title 4711" }).waitFor();
  assert.equal(new URL(tab.url()).searchParams.get("id"), asked.request_id);
  // Where more wait than one look shows, what moves up as others are decided was there before.
  const [urgent] = await askAll(agent, Array.from({ length: 201 }, (_, n) => ({ priority: "P1", title: `One of many, ${n}` })));
  await eventually(async () => (await told()).length > 1, true);
  await looked();
  await looked();
  const before = (await told()).length;
  sql("UPDATE hitl_requests SET created_at = created_at - interval '1 minute' WHERE agent_id = %s", agent.agentId);
  for (const { request_id } of [asked, urgent]) await decide(request_id, "reject", "no");
  for (const _ of [1, 2, 3]) await looked();
  assert.equal((await told()).length, before);
});

test("loading, empty, no match and errors each have their words", async (t) => {
  const agent = await newAgent();
  const gateway = await newGateway(t);
  let release;
  const held = new Promise((done) => { release = done; });
  const { meet } = gateway;
  gateway.meet = async (incoming, pass) => { if (incoming.url.startsWith("/v1/")) await held; return meet(incoming, pass); };
  const tab = await openPage(t, `?agent_id=${agent.agentId}`, { at: gateway.base_url });
  await tab.getByRole("status", { name: "Loading requests" }).waitFor();
  release();
  await tab.getByText("Nothing matches").waitFor();
  await tab.getByRole("link", { name: "Decided" }).click();
  gateway.meet = answering(200, "application/json", JSON.stringify({ items: [], next_cursor: null, counts: { pending: 0, P1: 0, P2: 0, P3: 0 } }));
  await tab.getByRole("button", { name: "Clear filters" }).click();
  await tab.getByText("Nothing decided yet").waitFor();
  await tab.getByRole("link", { name: "Pending" }).click();
  await tab.getByText("Nothing is waiting").waitFor();
  await tab.getByText("All clear").waitFor();
  assert.equal(await tab.title(), "RelayTrace");
  assert.equal(await tab.locator("link[rel=icon]").getAttribute("href"), "page/favicon.svg");
  gateway.meet = meet;
  await tab.goto(`${gateway.base_url}/?agent_id=NOT%20AN%20ID`);
  await tab.getByText("The list could not be loaded").waitFor();
  await tab.getByRole("button", { name: "Clear filters" }).click();
  await eventually(() => tab.getByText("The list could not be loaded").count(), 0);
});

test("an address marks its row and brings it into sight, and J and K go on from it", async (t) => {
  const agent = await newAgent();
  const asked = await askAll(agent, Array.from({ length: 40 }, (_, n) => ({ title: `Number ${n + 1}` })));
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[29].request_id}`);
  await tab.getByRole("heading", { name: "Number 30" }).waitFor();
  await eventually(() => row(tab, "Number 30").getAttribute("aria-current"), "true", "its row is marked");
  const [list, marked] = [await tab.locator("#list-scroll").boundingBox(), await row(tab, "Number 30").boundingBox()];
  assert.ok(marked.y >= list.y && marked.y + marked.height <= list.y + list.height, "its row is in sight");
  await tab.keyboard.press("j");
  await tab.getByRole("heading", { name: "Number 31" }).waitFor();
  await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}&id=${asked[29].request_id}`);
  await tab.getByRole("heading", { name: "Number 30" }).waitFor();
  await row(tab, "Number 30").waitFor();
  await tab.keyboard.press("k");
  await tab.getByRole("heading", { name: "Number 29" }).waitFor();
});

test("from a request that is not listed, J goes to the one after its place", async (t) => {
  const agent = await newAgent();
  const asked = await askAll(agent, [{ title: "One" }, { title: "Two" }, { title: "Three" }]);
  await decide(asked[1].request_id, "reject", "no");
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked[1].request_id}`);
  await tab.getByRole("heading", { name: "Two" }).waitFor();
  await row(tab, "Three").waitFor();
  await tab.keyboard.press("j");
  await tab.getByRole("heading", { name: "Three" }).waitFor();
});

test("a P1 is amber below five minutes and red below two, whatever share of its time that is, and says so", async (t) => {
  const agent = await newAgent();
  const [red, amber, calm] = await askAll(agent, [
    { title: "Red", priority: "P1", respond_by: soon(100) }, { title: "Amber", priority: "P1", respond_by: soon(280) },
    { title: "Calm", priority: "P1", respond_by: soon(600) }, { title: "No P1", respond_by: soon(200) },
  ]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${amber.request_id}`);
  await row(tab, "No P1").waitFor();
  const shown = await rows(tab).evaluateAll((all) => all.map((el) => [el.dataset.urgency, el.querySelector(".left").textContent.replace(/^[\d:]+ ?/, ""), el.querySelector(".left + .sr").textContent.replace(/^.* left,? ?/, "")]));
  assert.deepEqual(shown, [["urgent", "urgent", "urgent"], ["soon", "soon", "soon"], ["calm", "", ""], ["calm", "", ""]]);
  await tab.locator(".clock[data-urgency=soon]").waitFor();
  assert.match(await tab.locator(".clock").innerText(), /^4:\d\d left, soon$/);
  const color = (title) => row(tab, title).locator(".left").evaluate((el) => getComputedStyle(el).color);
  assert.equal(new Set([await color("Red"), await color("Amber"), await color("Calm")]).size, 3);
  assert.ok(red && calm);
});
