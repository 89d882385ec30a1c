// Points 4, 6, 7, 8 and 11, 12: what is decided, the answer, the keys, what comes after, the trace.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, focused, openPage, PHONE, row, rows, titles } from "./browser.mjs";
import { forward, isDecision, newGateway } from "./gateway.mjs";
import { askAll, decide, detail, newAgent, stack } from "./stack.mjs";

const send = "ControlOrMeta+Enter";

/** The answer itself, never "unchanged". */
function fetchWhole(route) {
  const { "if-none-match": _, ...headers } = route.request().headers();
  return route.fetch({ headers });
}

test("the whole action is in sight with its digest, and that digest goes with the decision", async (t) => {
  const agent = await newAgent();
  const args = { amount: 1.5, list: [true, null, "", { deep: { deeper: "value" } }], long: "word ".repeat(400).trim(), "odd name": "x" };
  const asked = await agent.ask({ action: { type: "refund.create", arguments: args } });
  const tab = await openPage(t, `?id=${asked.request_id}`);
  const box = tab.locator(".action-box");
  await box.waitFor();
  const text = await box.innerText();
  for (const part of ["refund.create", "4 arguments", "amount", "1.5", "true", "null", '""', "deeper", "value", "odd name", args.long]) assert.ok(text.includes(part), part);
  assert.equal(await box.locator("details, button").count(), 0);
  assert.equal(await tab.locator(".digest").first().innerText(), asked.action_digest);
  await tab.getByText("matches what is shown", { exact: true }).waitFor();
  const sent = tab.waitForRequest((request) => request.method() === "POST");
  await tab.locator("#approve").click();
  await tab.getByRole("button", { name: "Approve", exact: false }).last().click();
  assert.equal((await sent).postDataJSON().action_digest, asked.action_digest);
  await eventually(async () => (await detail(asked.request_id)).decision?.outcome, "approved");
});

test("the action stays in sight while the answer to it is written, also in a low window", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ priority: "P1" });
  const tab = await openPage(t, `?id=${asked.request_id}`, { viewport: { width: 960, height: 560 } });
  await tab.locator("#approve").click();
  const [last, bar] = [await tab.locator(".action-box dd").last().boundingBox(), await tab.locator(".bar").boundingBox()];
  const name = await tab.locator(".action-name").boundingBox();
  const top = await tab.locator(".detail-scroll").boundingBox();
  assert.ok(name.y >= top.y && last.y + last.height <= bar.y, JSON.stringify({ name, last, bar, top }));
});

/** What a newcomer does from the link on, each step with its moment. The first demo request is a P1. */
async function newcomer(t, how, steps) {
  const agent = await newAgent();
  const asked = await agent.ask({ priority: "P1", title: "Roll back checkout-service", action: { type: "deploy.rollback", arguments: { service: "checkout-service", to: "4.18.2" } } });
  const began = Date.now();
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  const done = ["opens the link"];
  for (const [words, act] of steps(tab)) {
    await act();
    done.push(`${words} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
  await tab.locator(".toast", { hasText: "Approved Roll back" }).waitFor();
  t.diagnostic(`${how}: ${done.join(", ")}`);
  assert.equal((await detail(asked.request_id)).decision.outcome, "approved");
}

test("a newcomer decides the first request by mouse", (t) => newcomer(t, "mouse", (tab) => [
  ["clicks the request", () => rows(tab).first().click()],
  ["clicks Approve", () => tab.getByRole("button", { name: "Approve" }).click()],
  ["types the action's type as the form asks", () => tab.keyboard.type("deploy.rollback")],
  ["clicks Approve in the form", () => tab.locator(".composer").getByRole("button", { name: "Approve" }).click()],
]));

test("a newcomer decides the first request by keyboard", (t) => newcomer(t, "keyboard", (tab) => [
  ["presses J, as the page says", async () => { await tab.getByText("Choose one from the list, or press J.").waitFor(); await rows(tab).first().waitFor(); await tab.keyboard.press("j"); }],
  ["presses A, as the button says", async () => { await tab.getByRole("button", { name: "Approve" }).waitFor(); await tab.keyboard.press("a"); }],
  ["types the action's type as the form asks", () => tab.keyboard.type("deploy.rollback")],
  ["presses Ctrl+Enter, as the button says", () => tab.keyboard.press(send)],
]));

test("what does not fit its digest cannot be approved", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask();
  const tab = await openPage(t, "");
  await tab.route(`**/v1/hitl/requests/${asked.request_id}`, async (route) => {
    const answer = await fetchWhole(route);
    const body = await answer.json();
    body.action.arguments.amount = "999999.00";
    await route.fulfill({ response: answer, json: body });
  });
  await tab.goto(`${new URL(tab.url()).origin}/?id=${asked.request_id}`);
  await tab.getByText("does NOT match what is shown").waitFor();
  assert.equal(await tab.locator("#approve").getAttribute("aria-disabled"), "true");
  await tab.keyboard.press("a");
  assert.equal(await tab.locator(".composer").isVisible(), false);
  assert.equal(await tab.locator("#reject").getAttribute("aria-disabled"), null);
});

test("by keyboard: approving is two strokes, rejecting two and a reason, a P1 asks for its type", async (t) => {
  const agent = await newAgent();
  const asked = await askAll(agent, [
    { title: "Urgent", priority: "P1", action: { type: "deploy.rollback", arguments: { to: "4.18.2" } } }, { title: "To approve" }, { title: "To reject" },
  ]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "To reject").waitFor();
  await tab.keyboard.press("j");
  await tab.locator("#approve").waitFor();

  await tab.keyboard.press("a");
  await tab.keyboard.press(send);
  await tab.getByText("That is not the action’s type yet.").waitFor();
  assert.equal(await focused(tab), "confirm-type");
  await tab.keyboard.type("deploy.rollback");
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "To approve" }).waitFor(); // the next one is open

  await tab.keyboard.press("a");
  await tab.keyboard.press(send);
  await tab.getByRole("heading", { name: "To reject" }).waitFor();

  await tab.keyboard.press("r");
  await tab.keyboard.press(send);
  await tab.getByText("A rejection needs a reason").waitFor();
  await tab.keyboard.type("too much");
  await tab.keyboard.press(send);
  await tab.getByText("Nothing matches").waitFor();

  const outcomes = await Promise.all(asked.map(async ({ request_id: id }) => {
    const { decision } = await detail(id);
    return [decision.outcome, decision.cause, decision.reason];
  }));
  assert.deepEqual(outcomes, [["approved", "operator", null], ["approved", "operator", null], ["rejected", "operator", "too much"]]);
});

test("after a decision the next one is open, a toast names what was done, and nothing offers to undo it", async (t) => {
  const agent = await newAgent();
  await askAll(agent, [{ title: "One" }, { title: "Two" }, { title: "Three" }]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Two").click();
  await tab.locator("#reject").click();
  await tab.getByRole("button", { name: "Against policy" }).click();
  assert.equal(await tab.getByLabel("Reason (the agent gets it)").inputValue(), "Against policy");
  await tab.locator(".composer").getByRole("button", { name: "Reject" }).click();
  await tab.getByRole("heading", { name: "Three" }).waitFor();
  assert.equal(await tab.locator(".toast").innerText(), "Rejected Two");
  await eventually(() => titles(tab), ["One", "Three"]);
  assert.equal(await row(tab, "Three").getAttribute("aria-current"), "true");
  assert.equal(await tab.getByText(/undo/i).count(), 0);
  await tab.locator("#approve").click();
  await tab.locator(".composer").getByRole("button", { name: "Approve" }).click();
  await tab.getByRole("heading", { name: "One" }).waitFor(); // nothing below: the nearest above
});

test("keys move and search; in a field they are letters; they can be switched off", async (t) => {
  const agent = await newAgent();
  await askAll(agent, [{ title: "Ajar" }, { title: "Kerb" }]);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Kerb").waitFor();
  const heading = (name) => tab.getByRole("heading", { name }).waitFor();
  await tab.keyboard.press("j");
  await heading("Ajar");
  await tab.keyboard.press("j");
  await heading("Kerb");
  await tab.keyboard.press("k");
  await heading("Ajar");
  await tab.keyboard.press("ArrowDown");
  await heading("Kerb");
  await tab.keyboard.press("Enter"); // on a row: as a link
  await eventually(() => focused(tab), "detail-title");
  await tab.keyboard.press("Escape");
  assert.match(await focused(tab), /row/);
  await tab.keyboard.press("/");
  await tab.keyboard.type("ajark?r");
  await eventually(() => titles(tab), []);
  assert.equal(await tab.locator("#filter-q").inputValue(), "ajark?r");
  assert.equal(await tab.locator(".composer").isVisible(), false);
  await tab.keyboard.press("ControlOrMeta+a");
  await tab.keyboard.type("ajar");
  await eventually(() => titles(tab), ["Ajar"]);
  await tab.keyboard.press("Escape");
  await tab.keyboard.press("j");
  await heading("Ajar");
  await tab.keyboard.press("r");
  await tab.keyboard.type("jar, k? a/r");
  await eventually(() => tab.locator("#reason").inputValue(), "jar, k? a/r");
  await tab.keyboard.press("Escape");
  assert.equal(await tab.locator(".composer").isVisible(), false);
  await tab.keyboard.press("?");
  await tab.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await tab.keyboard.press("a"); // nothing happens behind a dialog
  await tab.getByLabel("Single-letter keys are on").uncheck();
  await tab.keyboard.press("Escape");
  await tab.keyboard.press("r");
  assert.equal(await tab.locator(".composer").isVisible(), false);
});

test("if someone else decides first: who, what, when, no buttons, and the typed reason can be copied", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Raced for" });
  const query = `?agent_id=${agent.agentId}&id=${asked.request_id}`;
  const [maria, jonas] = await Promise.all([openPage(t, query, { permissions: ["clipboard-read", "clipboard-write"] }), openPage(t, query, { as: stack.operators[1].token })]);
  await maria.locator("#reject").click();
  await maria.locator("#reason").fill("I had good grounds");
  await jonas.locator("#approve").click();
  await jonas.keyboard.press(send);
  await maria.locator("#outcome").waitFor();
  assert.match(await maria.locator(".outcome-words").innerText(), /^Approved by Jonas K\. (just now|\d+ s ago)$/);
  assert.equal(await maria.locator(".outcome-words time").getAttribute("title").then((title) => /\d{4}-\d\d-\d\dT/.test(title)), true);
  assert.equal(await maria.locator("#approve").isVisible(), false);
  assert.equal(await maria.locator(".composer").isVisible(), false);
  assert.equal(await maria.locator(".kept-text").innerText(), "I had good grounds");
  await maria.getByRole("button", { name: "Copy text" }).click();
  await maria.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await maria.evaluate(() => navigator.clipboard.readText()), "I had good grounds");
  assert.equal((await detail(asked.request_id)).decision.decided_by.id, "jonas");
});

test("two operators press in the same moment: one decides, the other is told who", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "At once" });
  const tabs = await Promise.all([0, 1].map((n) => openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { as: stack.operators[n].token })));
  for (const [n, tab] of tabs.entries()) {
    await tab.locator("#reject").click();
    await tab.locator("#reason").fill(`grounds of ${stack.operators[n].id}`);
  }
  const answers = tabs.map((tab) => tab.waitForResponse((response) => response.request().method() === "POST"));
  await Promise.all(tabs.map((tab) => tab.keyboard.press(send)));
  const statuses = (await Promise.all(answers)).map((response) => response.status());
  assert.deepEqual([...statuses].sort(), [201, 409]);
  const { decision } = await detail(asked.request_id);
  const [winner, loser] = statuses[0] === 201 ? [0, 1] : [1, 0];
  assert.equal(decision.decided_by.id, stack.operators[winner].id);
  await tabs[winner].locator(".toast", { hasText: "Rejected At once" }).waitFor();
  await tabs[loser].locator("#outcome").waitFor();
  assert.match(await tabs[loser].locator("#outcome").innerText(), new RegExp(`^Rejected by ${stack.operators[winner].name}[^]*grounds of ${stack.operators[winner].id}[^]*Your answer was not sent[^]*grounds of ${stack.operators[loser].id}`));
});

test("the trace tells what happened, by whom and when; the receipt can be copied", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Traced" });
  const tab = await openPage(t, `?status=all&agent_id=${agent.agentId}&id=${asked.request_id}`, { permissions: ["clipboard-read", "clipboard-write"] });
  const kinds = () => tab.locator(".trace li strong").allInnerTexts();
  await eventually(kinds, ["Submitted"]);
  await decide(asked.request_id, "reject", "not today");
  await eventually(kinds, ["Submitted", "Decided: rejected", "Not delivered yet"]);
  const [given] = (await agent.poll()).decisions;
  await eventually(kinds, ["Submitted", "Decided: rejected", "Delivered"]);
  await agent.acknowledge(given);
  await eventually(kinds, ["Submitted", "Decided: rejected", "Delivered", "Acknowledged by the agent"]);
  const trace = await tab.locator(".trace").innerText();
  for (const part of [`by ${agent.agentId}`, "by Jonas K.", "not today"]) assert.ok(trace.includes(part), part);
  assert.equal(await tab.locator(".trace time").count(), 5); // one of each, and until when it could be answered
  for (const time of await tab.locator(".trace time").all()) assert.match(await time.getAttribute("title"), /\(\d{4}-\d\d-\d\dT/);
  const { chain, receipt } = await detail(asked.request_id);
  await tab.getByText(chain.head, { exact: true }).waitFor();
  await tab.getByRole("button", { name: "Copy receipt" }).click();
  assert.equal(await tab.evaluate(() => navigator.clipboard.readText()), receipt);
});

test("a timeout is never shown as a person's no", async (t) => {
  const agent = await newAgent();
  const [late, gone] = await askAll(agent, [{ title: "Nobody came", respond_by: new Date(Date.now() + 1500).toISOString() }, { title: "Withdrawn" }]);
  await agent.cancel(gone.request_id);
  const tab = await openPage(t, `?status=all&agent_id=${agent.agentId}&id=${late.request_id}`);
  await tab.locator("#outcome").waitFor();
  assert.match(await tab.locator("#outcome").innerText(), /^Timed out (just now|\d+ s ago)\s+Nobody answered in time, so its policy rejected it\./);
  const shown = await rows(tab).evaluateAll((all) => all.map((el) => [el.querySelector(".title").textContent, el.querySelector(".left").textContent, el.querySelector(".left").dataset.outcome]));
  assert.deepEqual(shown.sort(), [["Nobody came", "timed out", "other"], ["Withdrawn", "cancelled by agent", "other"]]);
});

test("it is told whether the agent is still waiting", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask();
  const tab = await openPage(t, `?id=${asked.request_id}`);
  await tab.getByText("agent has not asked for an answer yet").waitFor();
  await agent.poll();
  await tab.getByText("agent is waiting now").waitFor();
  await tab.route(`**/v1/hitl/requests/${asked.request_id}`, async (route) => {
    const answer = await fetchWhole(route);
    const agoSeconds = 12 * 60 + 5;
    await route.fulfill({ response: answer, json: { ...await answer.json(), agent_last_polled_at: new Date(Date.now() - agoSeconds * 1000).toISOString() } });
  });
  await tab.getByText("agent last seen 12 min ago").waitFor();
});

/** A key as a keyboard of another layout sends it: what it types, and where it lies. */
async function strike(tab, key, code) {
  const session = await tab.context().newCDPSession(tab);
  for (const type of ["keyDown", "keyUp"]) await session.send("Input.dispatchKeyEvent", { type, key, code, ...(type === "keyDown" && { text: key }) });
  await session.detach();
}

for (const [layout, [approve, reject, next, before]] of Object.entries({
  Cyrillic: [["ф", "KeyA"], ["к", "KeyR"], ["о", "KeyJ"], ["л", "KeyK"]],
  Greek: [["α", "KeyA"], ["ρ", "KeyR"], ["ξ", "KeyJ"], ["κ", "KeyK"]],
  Hebrew: [["ש", "KeyA"], ["ר", "KeyR"], ["ח", "KeyJ"], ["ל", "KeyK"]],
  Dvorak: [["a", "KeyA"], ["r", "KeyO"], ["j", "KeyC"], ["k", "KeyV"]],
})) {
  test(`the letter keys work on a keyboard of the layout ${layout}`, async (t) => {
    const agent = await newAgent();
    await askAll(agent, [{ title: "Upper" }, { title: "Lower" }]);
    const tab = await openPage(t, `?agent_id=${agent.agentId}`);
    await row(tab, "Lower").waitFor();
    const opens = (name) => tab.getByRole("heading", { name, exact: true }).waitFor();
    await strike(tab, ...next);
    await opens("Upper");
    await strike(tab, ...next);
    await opens("Lower");
    await strike(tab, ...before);
    await opens("Upper");
    await strike(tab, ...reject);
    assert.equal(await focused(tab), "reason");
    await strike(tab, ...approve); // in a field it is a letter
    await eventually(() => tab.locator("#reason").inputValue(), approve[0]);
    await tab.keyboard.press("Escape");
    await strike(tab, ...approve);
    await tab.locator(".composer").getByRole("heading", { name: "Approve" }).waitFor();
  });
}

test("on Dvorak the places of A and R on other keyboards do nothing", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask();
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`);
  await tab.locator("#approve").waitFor();
  await strike(tab, "p", "KeyR");
  await strike(tab, "é", "KeyA"); // a Latin letter of its own, wherever it lies
  assert.equal(await tab.locator(".composer").isVisible(), false);
});

test("Enter and letters are text while a reason is typed", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask();
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`);
  await tab.locator("#reject").click();
  await tab.keyboard.press("Enter");
  await strike(tab, "A", "KeyA");
  await strike(tab, "ф", "KeyA");
  await tab.keyboard.press("ControlOrMeta+a");
  await eventually(() => tab.locator("#reason").inputValue(), "\nAф");
  assert.equal((await detail(asked.request_id)).status, "pending");
});

const problem = (code, status, more = {}) => ({ response }) => response
  .writeHead(status, { "content-type": "application/problem+json" })
  .end(JSON.stringify({ type: `urn:relaytrace:problem:${code}`, title: code, status, code, retryable: false, ...more }));

/** A deployment that answers decisions when it is told to, each by its request's id. */
async function slowDeployment(t) {
  const gateway = await newGateway(t);
  const held = new Map();
  gateway.meet = async (call, pass) => {
    if (!isDecision(call)) return forward(call, pass);
    const answer = await new Promise((done) => held.set(call.url.split("/").at(-2), done));
    return answer(call, pass);
  };
  gateway.arrived = (asked) => eventually(() => held.has(asked.request_id), true, "the decision is under way");
  gateway.answer = (asked, answer = forward) => held.get(asked.request_id)(answer);
  return gateway;
}

test("a late failure is told at its own request, whichever is open by then; several are under way", async (t) => {
  const agent = await newAgent();
  const [a, b, c] = await askAll(agent, [{ title: "Alpha" }, { title: "Beta" }, { title: "Gamma" }]);
  const gateway = await slowDeployment(t);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`, { at: gateway.base_url });
  await row(tab, "Alpha").click();
  await tab.locator("#approve").click();
  await tab.locator("#reason").fill("alpha's note");
  await tab.keyboard.press(send);
  await gateway.arrived(a);
  await row(tab, "Gamma").click();
  await tab.locator("#approve").click();
  await tab.keyboard.press(send);
  await gateway.arrived(c);
  await row(tab, "Beta").click();
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("beta's reason");
  gateway.answer(a, problem("expired", 409));
  const told = tab.locator(".toast", { hasText: "Alpha" });
  await told.waitFor();
  assert.match(await told.innerText(), /Not approved.*Alpha[^]*Time ran out/);
  assert.equal(await tab.locator(".composer-error").innerText(), "");
  await eventually(() => tab.locator("#reason").inputValue(), "beta's reason");
  assert.equal(await tab.locator(".composer button[type=submit]").getAttribute("aria-disabled"), null);
  gateway.answer(c);
  await tab.locator(".toast", { hasText: "Approved Gamma" }).waitFor();
  assert.equal((await detail(c.request_id)).decision.outcome, "approved");
  await eventually(() => tab.locator("#reason").inputValue(), "beta's reason");
  assert.equal(await tab.locator("#detail-title").innerText(), "Beta");
  // At its own request the message and what was typed are still there.
  await told.getByRole("button", { name: "Open" }).click();
  await tab.getByRole("heading", { name: "Alpha", exact: true }).waitFor();
  await eventually(() => tab.locator("#reason").inputValue(), "alpha's note");
  assert.match(await tab.locator(".composer-error").innerText(), /Time ran out/);
  await tab.keyboard.press("Escape");
  await row(tab, "Beta").click();
  await eventually(() => tab.locator("#reason").inputValue(), "beta's reason");
  assert.equal((await detail(b.request_id)).status, "pending");
});

test("who decided first is told at the request that was raced for, not at the one that is open", async (t) => {
  const agent = await newAgent();
  const [a] = await askAll(agent, [{ title: "Alpha" }, { title: "Beta" }]);
  const gateway = await slowDeployment(t);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`, { at: gateway.base_url });
  await row(tab, "Alpha").click();
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("my grounds");
  await tab.keyboard.press(send);
  await gateway.arrived(a);
  await row(tab, "Beta").click();
  await decide(a.request_id, "approve", "was faster");
  gateway.answer(a);
  const told = tab.locator(".toast", { hasText: "Alpha" });
  await told.waitFor();
  assert.match(await told.innerText(), /approved by Jonas K\./i);
  assert.equal(await tab.locator("#detail-title").innerText(), "Beta");
  await told.getByRole("button", { name: "Open" }).click();
  await tab.locator("#outcome").waitFor();
  assert.equal(await tab.locator(".kept-text").innerText(), "my grounds");
});
