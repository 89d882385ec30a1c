// Point 14: signing in, roles, and tokens that end.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import { eventually, newTab, openPage, row } from "./browser.mjs";
import { forward, newGateway } from "./gateway.mjs";
import { detail, newAgent, personToken, stack } from "./stack.mjs";

const send = "ControlOrMeta+Enter";
const stored = (tab) => tab.evaluate(() => JSON.stringify([sessionStorage, localStorage, document.cookie]));

test("the local stack's link signs in, and the token leaves the address at once", async (t) => {
  const tab = await openPage(t);
  await tab.locator("#operator", { hasText: stack.operators[0].name }).waitFor();
  assert.equal(tab.url(), `${stack.base_url}/`);
  assert.ok(!(await tab.evaluate(() => document.documentElement.outerHTML)).includes(stack.operators[0].token));
  await tab.reload();
  await tab.locator("#operator", { hasText: stack.operators[0].name }).waitFor();
});

test("on a page that is not the local stack's own, a link's token is removed and not honoured", async (t) => {
  const gateway = await newGateway(t);
  gateway.meet = async (call, pass) => {
    if (call.url !== "/") return forward(call, pass);
    const answer = await pass();
    const html = answer.body.toString().replace('name="relaytrace-local" content="1"', 'name="relaytrace-local" content=""');
    const { "content-length": _, ...headers } = answer.headers;
    return call.response.writeHead(200, headers).end(html);
  };
  const tab = await newTab(t);
  await tab.goto(`${gateway.base_url}/#token=${stack.operators[0].token}`);
  await tab.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(tab.url(), `${gateway.base_url}/`);
  assert.ok(!(await stored(tab)).includes("eyJ"));
});

test("a pasted token signs in, stays in the tab's session, goes out as a header only, and is gone after signing out", async (t) => {
  const agent = await newAgent();
  await agent.ask({ title: "To be seen" });
  const tab = await newTab(t);
  const sent = [];
  tab.on("request", (request) => sent.push(request));
  await tab.goto(`${stack.base_url}/?agent_id=${agent.agentId}`);
  await tab.getByRole("heading", { name: "Sign in" }).waitFor();
  await tab.getByLabel("Token").fill("no token");
  await tab.keyboard.press("Enter");
  await tab.getByText("This is not a token").waitFor();
  await tab.getByLabel("Token").fill(personToken({}, -600));
  await tab.keyboard.press("Enter");
  await tab.getByText("This token has expired").waitFor();
  const token = personToken({ sub: "noor", name: "Noor K." });
  await tab.getByLabel("Token").fill(`Bearer ${token}`);
  await tab.keyboard.press("Enter");
  await row(tab, "To be seen").waitFor();
  assert.deepEqual(await tab.evaluate(() => [sessionStorage.length, localStorage.length, document.cookie]), [1, 0, ""]);
  const calls = sent.filter((request) => request.url().includes("/v1/"));
  assert.ok(calls.length > 0);
  for (const request of sent) assert.ok(!request.url().includes("eyJ"));
  for (const request of calls) assert.equal((await request.allHeaders()).authorization, `Bearer ${token}`);
  await tab.locator("#operator").click();
  await tab.getByText("Signed in as noor until").waitFor();
  await tab.getByRole("button", { name: "Sign out" }).click();
  await tab.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.ok(!(await stored(tab)).includes("eyJ"));
  assert.equal(await tab.getByText("To be seen").count(), 0);
});

test("an expired token is told, and a new one goes on with the place and the typed reason", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Half typed" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { as: personToken({}, 8) });
  await tab.getByText("Your sign-in ends at").waitFor();
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("typed under the old token");
  await tab.getByRole("heading", { name: "Signed out" }).waitFor();
  assert.equal(await tab.locator("#main").isVisible(), false);
  await tab.reload(); // even so
  await tab.getByLabel("Token").fill(personToken());
  await tab.keyboard.press("Enter");
  await tab.getByRole("heading", { name: "Half typed" }).waitFor();
  await eventually(() => tab.locator("#reason").inputValue(), "typed under the old token");
  await tab.locator("#reason").press(send);
  await tab.locator(".toast").waitFor();
  assert.equal((await detail(asked.request_id)).decision.reason, "typed under the old token");
});

test("before a token ends the page says so, and takes a new one without losing place or text", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Renewed" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { as: personToken({}, 120) });
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("half a sent");
  await tab.locator(".banner", { hasText: "Your sign-in ends at" }).getByRole("button", { name: "Sign in again" }).click();
  await tab.getByLabel("New token").fill(personToken());
  await tab.keyboard.press("Enter");
  await eventually(() => tab.locator(".banner").count(), 0);
  await eventually(() => tab.locator("#reason").inputValue(), "half a sent");
  assert.equal(new URL(tab.url()).searchParams.get("id"), asked.request_id);
});

/** An issuer that signs everyone in at once, if asked by the rules of OpenID Connect and PKCE; it remembers what it saw. */
async function newIssuer(t, token) {
  const codes = new Map();
  const issuer = { url: "", asked: null };
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, issuer.url);
    const json = (status, body) => response.writeHead(status, { "content-type": "application/json", "access-control-allow-origin": "*" }).end(JSON.stringify(body));
    if (url.pathname === "/.well-known/openid-configuration") {
      return json(200, { issuer: issuer.url, authorization_endpoint: `${issuer.url}/authorize`, token_endpoint: `${issuer.url}/token` });
    }
    if (url.pathname === "/authorize") {
      const asked = issuer.asked = Object.fromEntries(url.searchParams);
      const code = randomUUID();
      codes.set(code, asked);
      return response.writeHead(302, { location: `${asked.redirect_uri}?code=${code}&state=${issuer.forgedState ?? asked.state}` }).end();
    }
    let body = "";
    for await (const part of request) body += part;
    const given = Object.fromEntries(new URLSearchParams(body));
    const asked = codes.get(given.code);
    const fits = asked && given.grant_type === "authorization_code" && given.client_id === asked.client_id && given.redirect_uri === asked.redirect_uri
      && asked.code_challenge_method === "S256" && createHash("sha256").update(given.code_verifier).digest("base64url") === asked.code_challenge;
    return fits ? json(200, { access_token: token, token_type: "Bearer" }) : json(400, { error: "invalid_grant" });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => { server.closeAllConnections(); server.close(); });
  issuer.url = `http://127.0.0.1:${server.address().port}`;
  return issuer;
}

/** The page as a deployment with a client at this issuer serves it. */
async function newDeployment(t, issuer) {
  const gateway = await newGateway(t);
  gateway.meet = async (call, pass) => {
    if (call.url.startsWith("/v1/") || call.url.startsWith("/page/")) return forward(call, pass);
    const answer = await pass();
    const html = answer.body.toString()
      .replace('name="relaytrace-issuer" content=""', `name="relaytrace-issuer" content="${issuer.url}"`)
      .replace('name="relaytrace-client" content=""', 'name="relaytrace-client" content="operator-page"');
    const policy = answer.headers["content-security-policy"].replace("connect-src 'self'", `connect-src 'self' ${issuer.url}`);
    const { "content-length": _, ...headers } = answer.headers;
    return call.response.writeHead(200, { ...headers, "content-security-policy": policy }).end(html);
  };
  return gateway;
}

test("where a client is configured, the issuer signs in and brings back to the same place, typed text included", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Behind the issuer" });
  const issuer = await newIssuer(t, personToken({ sub: "noor", name: "Noor K." }));
  const { base_url } = await newDeployment(t, issuer);
  const tab = await newTab(t);
  const place = `?agent_id=${agent.agentId}&id=${asked.request_id}`;
  await tab.goto(`${base_url}/${place}`);
  await tab.getByRole("button", { name: `Continue at ${new URL(issuer.url).host}` }).click();
  await tab.getByRole("heading", { name: "Behind the issuer" }).waitFor();
  assert.equal(new URL(tab.url()).search, place);
  assert.deepEqual([issuer.asked.client_id, issuer.asked.response_type, issuer.asked.redirect_uri], ["operator-page", "code", `${base_url}/`]);
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("typed before the way to the issuer");
  await tab.locator("#operator", { hasText: "Noor K." }).click();
  await tab.getByRole("button", { name: "Sign in again" }).click();
  await tab.getByRole("button", { name: /^Continue at/ }).click();
  await tab.getByRole("heading", { name: "Behind the issuer" }).waitFor();
  await eventually(() => tab.locator("#reason").inputValue(), "typed before the way to the issuer");
});

test("an answer of the issuer that this tab did not ask for signs nobody in", async (t) => {
  const issuer = await newIssuer(t, personToken());
  const { base_url } = await newDeployment(t, issuer);
  const tab = await newTab(t);
  await tab.goto(`${base_url}/?code=someone-elses&state=someone-elses`);
  await tab.getByText("This sign-in was not begun in this tab").waitFor();
  assert.equal(tab.url(), `${base_url}/`);
  issuer.forgedState = "forged";
  // The page that comes back says it again: the words of the page before would pass for it.
  const back = tab.waitForEvent("load");
  await tab.getByRole("button", { name: /^Continue at/ }).click();
  await back;
  await tab.getByText("This sign-in was not begun in this tab").waitFor();
  assert.ok(!(await stored(tab)).includes("eyJ"));
});

test("another person at the same tab finds nothing that was typed", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Private" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { as: personToken({}, 8) });
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("maria's grounds");
  await tab.getByRole("heading", { name: "Signed out" }).waitFor();
  await tab.reload();
  await tab.getByLabel("Token").fill(stack.operators[2].token);
  await tab.keyboard.press("Enter");
  await tab.locator("#reject").click();
  await eventually(() => tab.locator("#reason").inputValue(), "");
  assert.ok(!(await stored(tab)).includes("grounds"));
});

test("whoever has not the role sees why, and nothing else", async (t) => {
  for (const [roles, words] of [[["admin"], "with the role admin"], [[], "with no role"]]) {
    const tab = await openPage(t, "", { as: personToken({ sub: "someone", name: "Some One", roles }) });
    await tab.getByRole("heading", { name: "No access to the queue" }).waitFor();
    await tab.getByText(`${words}. Seeing and deciding requests needs the role operator.`).waitFor();
    assert.equal(await tab.locator("#main").isVisible(), false);
  }
});

test("a token that the server does not believe signs nobody in", async (t) => {
  const token = personToken();
  const forged = token.slice(0, -8) + (token.endsWith("AAAAAAAA") ? "BBBBBBBB" : "AAAAAAAA");
  const tab = await openPage(t, "", { as: forged });
  await tab.getByRole("heading", { name: "Signed out" }).waitFor();
});

/** Another tab of the same browser. */
async function tabBeside(tab, query) {
  const other = await tab.context().newPage();
  other.setDefaultTimeout(20_000);
  await other.goto(`${new URL(tab.url()).origin}/${query}`);
  return other;
}

test("a second tab opens signed in, as does a colleague's link; the token is in no lasting store", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "In both tabs" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "In both tabs").waitFor();
  const other = await tabBeside(tab, `?id=${asked.request_id}`);
  await other.getByRole("heading", { name: "In both tabs" }).waitFor();
  await other.locator("#operator", { hasText: stack.operators[0].name }).waitFor();
  assert.ok(!(await other.evaluate(() => JSON.stringify([localStorage, document.cookie]))).includes("eyJ"));
  // Alone again, and still signed in after a reload.
  await tab.close();
  await other.reload();
  await other.getByRole("heading", { name: "In both tabs" }).waitFor();
});

test("signing out in one tab ends all of them", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Seen in two tabs" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "Seen in two tabs").waitFor();
  const other = await tabBeside(tab, `?id=${asked.request_id}`);
  await other.locator("#reject").click();
  await other.locator("#reason").fill("not for the next person");
  await tab.locator("#operator").click();
  await tab.getByRole("button", { name: "Sign out" }).click();
  for (const one of [tab, other]) {
    await one.getByRole("heading", { name: "Sign in" }).waitFor();
    await eventually(() => stored(one).then((kept) => /eyJ|next person/.test(kept)), false, "nothing is kept");
    assert.equal(await one.getByText("Seen in two tabs").count(), 0);
  }
  await tab.reload();
  await tab.getByRole("heading", { name: "Sign in" }).waitFor();
});

test("a tab whose sign-in has ended goes on with the newer one of another tab, its text kept", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Half typed" });
  const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, { as: personToken({}, 8) });
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("under the old token");
  await tab.getByRole("heading", { name: "Signed out" }).waitFor();
  const other = await tabBeside(tab, `#token=${personToken()}`);
  await other.locator("#operator").waitFor();
  await tab.getByRole("heading", { name: "Half typed" }).waitFor();
  await eventually(() => tab.locator("#reason").inputValue(), "under the old token");
});

test("over plain http the page says that the digest cannot be checked, and holds approving back; so does the sign-in", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "On the LAN" });
  const gateway = await newGateway(t);
  const lan = gateway.base_url.replace("127.0.0.1", "relay.lan");
  const tab = await newTab(t);
  await tab.goto(lan);
  await tab.getByText(/plain http.*the browser cannot check what you approve/).waitFor();
  await tab.goto(`${lan}/?id=${asked.request_id}#token=${stack.operators[0].token}`);
  await tab.locator(".check", { hasText: "cannot be checked" }).waitFor();
  assert.equal(await tab.evaluate(() => isSecureContext), false);
  assert.equal(await tab.locator("#approve").getAttribute("aria-disabled"), "true");
  await tab.locator("#why", { hasText: "plain http" }).waitFor();
  await tab.keyboard.press("a");
  assert.equal(await tab.locator(".composer").isVisible(), false);
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("cannot be read with certainty");
  await tab.keyboard.press(send);
  await tab.locator(".toast").waitFor();
  assert.equal((await detail(asked.request_id)).decision.outcome, "rejected");
});

test("over plain http the way to the issuer is told to need https, not that the issuer is away", async (t) => {
  const issuer = await newIssuer(t, personToken());
  const { base_url } = await newDeployment(t, issuer);
  const tab = await newTab(t);
  await tab.goto(base_url.replace("127.0.0.1", "relay.lan"));
  await tab.getByRole("button", { name: /^Continue at/ }).click();
  await tab.getByText(/Signing in at the issuer needs https/).waitFor();
  assert.equal(await tab.getByText("cannot be reached").count(), 0);
});
