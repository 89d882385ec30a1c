// Point 10, and answers that are bad: lost connections, 503, what is not RelayTrace, requests that are not there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, openPage, row, titles } from "./browser.mjs";
import { answering, breakOff, forward, isDecision, newGateway } from "./gateway.mjs";
import { askAll, decide, detail, newAgent, sql } from "./stack.mjs";

const send = "ControlOrMeta+Enter";

/** A request that is open with a typed rejection, behind a gateway. */
async function typing(t, text) {
  const agent = await newAgent();
  const [asked] = await askAll(agent, [{ title: "In question" }, { title: "Another" }]);
  const gateway = await newGateway(t);
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { at: gateway.base_url });
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill(text);
  return { agent, id: asked.request_id, gateway, tab, submit: tab.locator(".composer button[type=submit]"), error: tab.locator("#composer-error") };
}

test("a lost connection is told, marks the list, keeps decisions back and typed text, and ends by itself", async (t) => {
  const { agent, id, gateway, tab, submit } = await typing(t, "typed before");
  gateway.cut();
  await tab.getByRole("alert").filter({ hasText: "Nothing can be decided until the connection is back" }).waitFor();
  assert.equal(await tab.locator("#link-state").innerText(), "Offline");
  assert.equal(await tab.locator("body").getAttribute("data-stale"), "1");
  assert.match(await tab.locator("#list").evaluate((el) => getComputedStyle(el).filter), /saturate/);
  assert.equal(await submit.getAttribute("aria-disabled"), "true");
  await tab.locator("#reason").press(send);
  await eventually(() => titles(tab), ["In question", "Another"]); // still there to be read
  await agent.ask({ title: "Asked meanwhile" });
  gateway.restore();
  await eventually(() => tab.locator("#link-state").innerText(), "Live");
  await eventually(() => tab.locator(".banner").count(), 0);
  await eventually(() => titles(tab), ["In question", "Another", "Asked meanwhile"]);
  assert.equal((await detail(id)).status, "pending");
  await eventually(() => tab.locator("#reason").inputValue(), "typed before");
  await tab.locator("#reason").press(send);
  await tab.locator(".toast").waitFor();
  assert.equal((await detail(id)).decision.reason, "typed before");
});

test("an answer that is lost after it was recorded: pressing again is safe, and makes no second decision", async (t) => {
  const { id, gateway, tab, error } = await typing(t, "sent twice");
  let posts = 0;
  let release;
  const held = new Promise((done) => { release = done; });
  gateway.meet = async (call, pass) => {
    if (!isDecision(call)) { await held; return forward(call, pass); } // else the page would see at once what became of it
    posts += 1;
    if (posts > 1) return forward(call, pass);
    await pass(); // it arrives, its answer does not
    return breakOff(call);
  };
  await tab.locator("#reason").press(send);
  await error.filter({ hasText: "It is not known whether your answer arrived. Pressing again is safe" }).waitFor();
  await tab.locator("#reason").press(send);
  await tab.locator(".toast", { hasText: "Rejected In question" }).waitFor();
  release();
  assert.equal(posts, 2);
  const { decision, chain } = await detail(id);
  assert.deepEqual([decision.reason, chain.entries.map((entry) => entry.kind)], ["sent twice", ["submitted", "decided"]]);
});

test("a 503 in the middle of a decision says that nothing is lost and that pressing again is safe", async (t) => {
  const { id, gateway, tab, error } = await typing(t, "kept through a 503");
  const problem = { type: "urn:relaytrace:problem:unavailable", title: "Unavailable", status: 503, detail: "try again", code: "unavailable", retryable: true, trace_id: "0af7651916cd43dd8448eb211c80319c" };
  let posts = 0;
  gateway.meet = (call, pass) => {
    if (!isDecision(call) || (posts += 1) > 1) return forward(call, pass);
    return call.response.writeHead(503, { "content-type": "application/problem+json", "retry-after": "2" }).end(JSON.stringify(problem));
  };
  await tab.locator("#reason").press(send);
  await error.filter({ hasText: "Pressing again is safe" }).waitFor();
  assert.match(await error.innerText(), /asks to wait 2 s.*0af7651916cd43dd8448eb211c80319c/);
  await eventually(() => tab.locator("#reason").inputValue(), "kept through a 503");
  assert.equal((await detail(id)).status, "pending");
  await tab.locator("#reason").press(send);
  await tab.locator(".toast", { hasText: "Rejected In question" }).waitFor();
  assert.equal((await detail(id)).decision.reason, "kept through a 503");
});

for (const [what, answer] of [
  ["a proxy's page", answering(200, "text/html", "<!doctype html><script>document.title='taken'</script><h1>Welcome</h1>")],
  ["broken JSON", answering(200, "application/json", '{"items": [')],
  ["JSON of something else", answering(200, "application/json", '{"status": "ok"}')],
  ["items that are none", answering(200, "application/json", '{"items": [{"title": 7}], "counts": {}, "next_cursor": null}')],
  ["another server's 404", answering(404, "text/html", "<h1>Not Found</h1>")],
  ["another server's 403", answering(403, "application/json", '{"message": "Forbidden"}')],
]) {
  test(`${what} is not taken for the API`, async (t) => {
    const { gateway, tab, submit } = await typing(t, "typed before");
    gateway.meet = answer;
    await tab.getByRole("alert").filter({ hasText: "What answered is not RelayTrace" }).waitFor();
    await eventually(() => titles(tab), ["In question", "Another"]);
    assert.equal(await submit.getAttribute("aria-disabled"), "true");
    assert.match(await tab.title(), /RelayTrace$/);
    gateway.restore();
    await eventually(() => tab.locator(".banner").count(), 0);
    await eventually(() => tab.locator("#reason").inputValue(), "typed before");
  });
}

test("a decision that something else answers is not taken for made", async (t) => {
  const { id, gateway, tab, error } = await typing(t, "typed before");
  gateway.meet = (call, pass) => (isDecision(call) ? answering(200, "text/html", "<h1>Fine</h1>")(call, pass) : forward(call, pass));
  await tab.locator("#reason").press(send);
  await error.filter({ hasText: "It is not known whether your answer arrived. Pressing again is safe" }).waitFor();
  assert.equal(await tab.locator(".toast").count(), 0);
  assert.equal((await detail(id)).status, "pending");
});

test("an answer that comes too late says so and keeps what was typed", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Short" });
  const gateway = await newGateway(t);
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { at: gateway.base_url });
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("just too late");
  gateway.meet = async (call, pass) => {
    if (isDecision(call)) {
      sql("UPDATE hitl_requests SET respond_by = created_at + interval '1 millisecond' WHERE request_id = %s", asked.request_id);
      await eventually(async () => (await detail(asked.request_id)).status, "decided");
    }
    return forward(call, pass);
  };
  await tab.locator("#reason").press(send);
  await tab.locator("#outcome").waitFor();
  assert.match(await tab.locator("#outcome").innerText(), /^Timed out[^]*Your answer was not sent[^]*just too late/);
});

test("a request that does not exist says so, and the way back works", async (t) => {
  const agent = await newAgent();
  await agent.ask({ title: "There" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=01890000-0000-7000-8000-000000000000`);
  await tab.getByText("No such request").waitFor();
  assert.equal(await tab.locator("#approve").isVisible(), false);
  await row(tab, "There").click();
  await tab.getByRole("heading", { name: "There" }).waitFor();
  await tab.goto(`${new URL(tab.url()).origin}/?id=neither-a-uuid`);
  await tab.getByText("No such request").waitFor();
});

test("what others decide appears within two turns, also where the list is filtered to something else", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Open here" });
  const tab = await openPage(t, `?q=nothing-fits-this&id=${asked.request_id}`);
  await tab.locator("#approve").waitFor();
  await decide(asked.request_id, "approve", "fine");
  await tab.locator("#outcome").waitFor();
  assert.match(await tab.locator("#outcome").innerText(), /^Approved by Jonas K\.[^]*fine/);
});
