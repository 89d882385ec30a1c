// The page as an installed app: its service worker, notifications, and the switch of a device, with a push service from npm.
// A headless Chromium subscribes at no push service: what its PushManager would give comes from the one of this test.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually, newTab, openPage, PHONE, row } from "./browser.mjs";
import { call, detail, newAgent, personToken, stack } from "./stack.mjs";

const { PushApiModel } = createRequire(import.meta.url)("web-push-testing/src/PushApiModel.js");
const PushServer = createRequire(import.meta.url)("web-push-testing/src/server.js");

const freePort = () => new Promise((done) => {
  const probe = createServer().listen(0, "127.0.0.1", () => { const { port } = probe.address(); probe.close(() => done(port)); });
});

/** The push service, and a browser's subscription there. */
async function startPushService(t) {
  const port = await freePort();
  const server = new PushServer(new PushApiModel(), port);
  server.startServer();
  t.after(() => server._server.close());
  const ask = async (path, body) => (await fetch(`http://127.0.0.1:${port}/${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
  return {
    async subscribe(applicationServerKey) {
      const { data } = await ask("subscribe", { applicationServerKey });
      const endpoint = data.endpoint.replace("localhost", "127.0.0.1");
      return { clientHash: data.clientHash, subscription: { endpoint, expirationTime: null, keys: data.keys } };
    },
    messages: async (clientHash) => (await ask("get-notifications", { clientHash })).data.messages.map((text) => JSON.parse(text)),
    expire: (clientHash) => fetch(`http://127.0.0.1:${port}/expire-subscription/${clientHash}`, { method: "POST" }),
  };
}

/**
 * Delivers a push message to the page's service worker, as its browser would, and waits until its notifications change.
 * Chromium drops a message that arrives before it has stored the worker's registration (a real subscription comes later), even
 * though the worker is active: such a message is sent again.
 */
async function deliver(tab, data) {
  const before = JSON.stringify(await notifications(tab));
  const session = await tab.context().newCDPSession(tab);
  const registered = new Promise((done) => session.on("ServiceWorker.workerVersionUpdated", ({ versions }) => {
    const active = versions.find(({ status }) => status === "activated");
    if (active) done(active.registrationId);
  }));
  await session.send("ServiceWorker.enable");
  for (let tries = 0; tries < 5 && JSON.stringify(await notifications(tab)) === before; tries += 1) {
    await session.send("ServiceWorker.deliverPushMessage", { origin: stack.base_url, registrationId: await registered, data });
    const patience = Date.now() + 3_000;
    while (Date.now() < patience && JSON.stringify(await notifications(tab)) === before) await sleep(50);
  }
  await session.detach();
}

const ready = (tab) => tab.evaluate(() => navigator.serviceWorker.ready.then(() => true));
const notifications = (tab) => tab.evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications())
  .map(({ title, body, tag, data }) => ({ title, body, tag, id: data.id })));

/** Taps a notification, as far as a test may: no window is focused or opened without a person's tap. */
async function tap(tab) {
  const [worker] = tab.context().serviceWorkers();
  await worker.evaluate(async () => {
    const [notification] = await self.registration.getNotifications();
    self.dispatchEvent(new NotificationEvent("notificationclick", { notification }));
  });
}

const told = (asked, agent, changes = {}) => ({
  id: "msg_1", notice: "requested", request_id: asked.request_id, title: "Refund number 1", priority: "P2", agent_id: agent.agentId,
  action_type: "refund.create", respond_by: new Date(Date.now() + 30.5 * 60_000).toISOString(), link: null, ...changes,
});

test("it can be installed, and its files have tags", async (t) => {
  const tab = await openPage(t);
  await ready(tab);
  const session = await tab.context().newCDPSession(tab);
  const { errors, data, url } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  const manifest = JSON.parse(data);
  assert.equal(new URL(manifest.start_url, url).href, `${stack.base_url}/`);
  const files = ["/sw.js", "/page/manifest.webmanifest", ...manifest.icons.map(({ src }) => `/page/${src}`), "/page/icon-180.png"];
  for (const path of files) {
    const answer = await call(path);
    assert.equal(answer.status, 200, path);
    const again = await call(path, { headers: { "if-none-match": answer.headers.get("etag") } });
    assert.equal(again.status, 304, path);
  }
  const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
  assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito"), []);
});

test("without a connection it says so, shows nothing from before, and goes on when it is back", async (t) => {
  const agent = await newAgent();
  await agent.ask({ title: "Asked before" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Asked before").waitFor();
  await ready(tab);
  assert.deepEqual(await tab.evaluate(() => caches.keys()), []);
  await tab.context().setOffline(true);
  await tab.reload();
  await tab.getByRole("heading", { name: "No connection" }).waitFor();
  assert.equal(await tab.getByText("Asked before").count(), 0);
  await tab.context().setOffline(false);
  await tab.getByRole("link", { name: "Try again" }).click();
  await row(tab, "Asked before").waitFor();
  assert.deepEqual(await tab.evaluate(() => caches.keys()), []);
});

test("a notification opens its request, keeps what was typed, and two taps decide", async (t) => {
  const agent = await newAgent();
  const [first, second] = [await agent.ask(), await agent.ask({ title: "The second" })];
  const tab = await openPage(t, `?id=${first.request_id}`, { viewport: PHONE, isMobile: true, hasTouch: true });
  await tab.context().grantPermissions(["notifications"], { origin: stack.base_url });
  await tab.locator("#reject").tap();
  await tab.locator("#reason").fill("Half a reason");
  await ready(tab);
  await deliver(tab, JSON.stringify(told(second, agent, { title: "The second" })));
  await eventually(() => notifications(tab), [{ title: "P2: The second", body: `${agent.agentId}, refund.create\n30 minutes left`, tag: second.request_id, id: second.request_id }]);
  await tap(tab);
  await tab.locator("#detail-title", { hasText: "The second" }).waitFor();
  await eventually(() => notifications(tab), []);
  await tab.locator("#approve").tap();
  await tab.locator(".composer button[type=submit]").tap();
  await eventually(async () => (await detail(second.request_id)).outcome, "approved");
  await tab.goto(`${stack.base_url}/?id=${first.request_id}#token=${stack.operator.token}`);
  await eventually(() => tab.locator("#reason").inputValue(), "Half a reason");
});

test("a later message of the same request takes the place of the first", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask();
  const tab = await openPage(t);
  await tab.context().grantPermissions(["notifications"], { origin: stack.base_url });
  await ready(tab);
  await deliver(tab, JSON.stringify(told(asked, agent)));
  await deliver(tab, JSON.stringify(told(asked, agent, { notice: "escalated" })));
  await eventually(async () => (await notifications(tab)).map(({ body }) => body.split(":")[0]), ["Not answered yet"]);
});

for (const unreadable of ["not JSON", "", "null", "[]", '{"title":"of nothing"}']) {
  test(`a message that cannot be read still shows a notification: ${JSON.stringify(unreadable)}`, async (t) => {
    const tab = await openPage(t);
    await tab.context().grantPermissions(["notifications"], { origin: stack.base_url });
    await ready(tab);
    await deliver(tab, unreadable);
    assert.deepEqual(await notifications(tab), [
      { title: "RelayTrace", body: "There may be a request for you. Open the page to see it.", tag: "", id: "" },
    ]);
  });
}

test("a device is told after its switch was turned on, and no longer after it was turned off", async (t) => {
  const [agent, service] = [await newAgent(), await startPushService(t)];
  const me = `phone-${agent.agentId}`;
  const token = personToken({ sub: me, name: "Phone", groups: ["ops"] });
  const { public_key: key } = (await call("/v1/hitl/push-subscriptions", { token })).json;
  const { clientHash, subscription } = await service.subscribe(key);
  const tab = await newTab(t, { viewport: PHONE, isMobile: true, hasTouch: true });
  await tab.context().grantPermissions(["notifications"], { origin: stack.base_url });
  await tab.addInitScript((given) => {
    let is = null;
    const made = { ...given, options: {}, toJSON: () => given, unsubscribe: async () => { is = null; return true; } };
    PushManager.prototype.getSubscription = async () => is;
    PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
      if (!userVisibleOnly) throw new Error("not to be seen");
      made.options = { applicationServerKey };
      is = made;
      return is;
    };
  }, subscription);
  await tab.goto(`${stack.base_url}/#token=${token}`);
  await ready(tab);
  const mine = async () => (await call("/v1/hitl/push-subscriptions", { token })).json.items;
  await tab.locator("#operator").tap();
  await tab.locator("#push-on").check();
  await eventually(async () => (await mine()).length, 1);
  await tab.locator("#push-priorities").selectOption("P1,P2");
  await eventually(async () => (await mine())[0].priorities, ["P1", "P2"]);

  const asked = await agent.ask({ title: "For the phone" });
  const messages = async () => (await service.messages(clientHash)).filter((message) => message.agent_id === agent.agentId);
  await eventually(async () => (await messages()).map(({ request_id: id }) => id), [asked.request_id]);
  const [message] = await messages();
  assert.ok(!JSON.stringify(message).includes("88213"));
  await deliver(tab, JSON.stringify(message));
  await eventually(async () => (await notifications(tab)).filter(({ id }) => id === asked.request_id).length, 1);

  await tab.locator("#push-on").uncheck();
  await eventually(async () => (await mine()).length, 0);
  // Turned on again, and ended by its push service.
  await tab.locator("#push-on").check();
  await eventually(async () => (await mine()).length, 1);
  await service.expire(clientHash);
  await agent.ask({ title: "For nobody" });
  await eventually(async () => (await mine()).length, 0);
});

test("signing out turns it off", async (t) => {
  const me = `phone-${(await newAgent()).agentId}`;
  const token = personToken({ sub: me, name: "Phone" });
  const service = await startPushService(t);
  const { public_key: key } = (await call("/v1/hitl/push-subscriptions", { token })).json;
  const { subscription } = await service.subscribe(key);
  const put = await call("/v1/hitl/push-subscriptions/this-one", { token, method: "PUT", body: subscription });
  assert.equal(put.status, 200);
  const tab = await newTab(t);
  await tab.addInitScript(([owner]) => localStorage.setItem("relaytrace.push", JSON.stringify({ id: "this-one", owner })), [me]);
  await tab.goto(`${stack.base_url}/#token=${token}`);
  await tab.locator("#operator").click();
  await tab.locator("#sign-out").click();
  await eventually(async () => (await call("/v1/hitl/push-subscriptions", { token })).json.items.length, 0);
});

test("it ends where another person signs in at the same browser", async (t) => {
  const me = `phone-${(await newAgent()).agentId}`;
  const token = personToken({ sub: me, name: "Phone" });
  const tab = await newTab(t);
  const theirs = JSON.stringify({ id: "theirs", owner: `not-${me}`, priorities: "P1" });
  await tab.addInitScript(([text]) => localStorage.setItem("relaytrace.push", text), [theirs]);
  await tab.goto(`${stack.base_url}/#token=${token}`);
  await tab.locator("#operator").waitFor();
  await eventually(() => tab.evaluate(() => localStorage.getItem("relaytrace.push")), null);
});
