// The page from a plain file server on another origin, as a bucket would serve it; and that CORS admits nothing else.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { test } from "node:test";
import { eventually, newTab, row } from "./browser.mjs";
import { call, detail, newAgent, personToken, stack } from "./stack.mjs";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json" };
const PORT = Number(process.env.PAGE_PORT); // the stack admits this origin, tests/page/run told it

/** The page as `export-page` writes it, behind a server that only knows files. */
async function serveFiles(t, port) {
  const folder = mkdtempSync(join(tmpdir(), "page-"));
  execFileSync("functions/decide/export-page", [folder, stack.base_url]);
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname).replace(/\/$/, "/index.html");
    try {
      const body = readFileSync(join(folder, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] }).end(body);
    } catch { response.writeHead(404).end(); }
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  t.after(() => { server.closeAllConnections(); server.close(); rmSync(folder, { recursive: true }); });
  return `http://127.0.0.1:${server.address().port}`;
}

async function signIn(tab, address, token) {
  await tab.goto(address);
  await tab.getByLabel("Token").fill(token);
  await tab.keyboard.press("Enter");
}

test("from the configured origin the page shows, follows and decides", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "From elsewhere" });
  const origin = await serveFiles(t, PORT);
  const tab = await newTab(t);
  const answers = [];
  tab.on("response", (response) => { if (response.url().startsWith(stack.base_url)) answers.push(response.status()); });
  await signIn(tab, `${origin}/?agent_id=${agent.agentId}`, personToken());
  await row(tab, "From elsewhere").click();
  await agent.ask({ title: "Asked later" });
  await row(tab, "Asked later").waitFor();
  await eventually(async () => answers.includes(304), true, "the tag was readable and sent again");
  await tab.keyboard.press("r");
  await tab.keyboard.type("seen from elsewhere");
  await tab.keyboard.press("ControlOrMeta+Enter");
  await tab.locator(".toast", { hasText: "Rejected From elsewhere" }).waitFor();
  assert.equal((await detail(asked.request_id)).decision.reason, "seen from elsewhere");
  assert.equal(await tab.evaluate(() => location.origin), origin);
  // A refusal can be read too: it is no lost connection.
  await tab.goto(`${origin}/?agent_id=NO%20ID`);
  await tab.getByText("The list could not be loaded").waitFor();
});

test("its address is the meta tag's, whatever the URL says, and a link's token is not honoured", async (t) => {
  const origin = await serveFiles(t, PORT);
  const tab = await newTab(t);
  const asked = [];
  tab.on("request", (request) => asked.push(new URL(request.url()).origin));
  await signIn(tab, `${origin}/?api=https://evil.example&relaytrace-api=https://evil.example#api=https://evil.example`, personToken());
  await tab.locator("#operator").waitFor();
  await eventually(async () => asked.includes(stack.base_url), true);
  assert.deepEqual([...new Set(asked)].sort(), [origin, stack.base_url].sort());
  const other = await newTab(t);
  await other.goto(`${origin}/#token=${stack.operator.token}`);
  await other.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(other.url(), `${origin}/`);
});

test("from any other origin the browser gives the page nothing", async (t) => {
  const origin = await serveFiles(t, 0);
  const tab = await newTab(t);
  await signIn(tab, origin, personToken());
  await tab.getByRole("alert").filter({ hasText: "The server cannot be reached" }).waitFor();
  assert.equal(await row(tab, "").count(), 0);
});

test("what is admitted is this origin, these headers, the operators' routes and those of rules", async () => {
  const ours = `http://127.0.0.1:${PORT}`;
  const ask = (path, origin, method = "OPTIONS") => call(path, { method, token: stack.operator.token, headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization" } });
  const admitted = await ask("/v1/hitl/requests", ours);
  assert.equal(admitted.headers.get("access-control-allow-origin"), ours);
  assert.deepEqual(admitted.headers.get("access-control-allow-headers").split(",").sort(), ["authorization", "content-type", "if-match", "if-none-match"]);
  assert.deepEqual(admitted.headers.get("access-control-allow-methods").split(",").sort(), ["DELETE", "GET", "POST", "PUT"]);
  assert.equal(admitted.headers.get("access-control-allow-credentials"), null);
  for (const path of ["/v1/admin/rules", "/v1/admin/rules/1", "/v1/admin/rules/try", "/v1/admin/reports/sla"]) assert.equal((await ask(path, ours)).headers.get("access-control-allow-origin"), ours, path);
  const answer = await ask("/v1/hitl/requests", ours, "GET");
  assert.deepEqual(answer.headers.get("access-control-expose-headers").split(",").sort(), ["date", "etag", "retry-after"]);
  for (const [path, origin] of [["/v1/hitl/requests", `http://localhost:${PORT}`], ["/v1/hitl/requests", "null"], ["/v1/hitl/requests", "https://evil.example"],
    ["/v1/admin/agents", ours], ["/v1/agents/a/decisions/poll", ours], ["/internal/timeout-sweep", ours]]) {
    for (const method of ["OPTIONS", "GET"]) {
      assert.equal((await ask(path, origin, method)).headers.get("access-control-allow-origin"), null, `${method} ${path} from ${origin}`);
    }
  }
});
