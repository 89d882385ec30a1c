// Chromium, and the page in it as one operator sees it.

import { execFileSync } from "node:child_process";
import { after } from "node:test";
import { chromium } from "playwright-core";
import { stack } from "./stack.mjs";

const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

function findBrowser() {
  for (const name of ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch { /* the next one */ }
  }
  return "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";
}

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? findBrowser(),
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-lcd-text", "--host-resolver-rules=MAP relay.lan 127.0.0.1"],
});
if (process.env.NODE_TEST_CONTEXT) after(() => browser.close());

/** A tab of a browser of its own, closed with the test. What goes wrong in the page fails the test. */
export async function newTab(t, options = {}) {
  const context = await browser.newContext({ viewport: WIDE, reducedMotion: "reduce", ...options });
  const tab = await context.newPage();
  tab.setDefaultTimeout(20_000);
  const faults = [];
  tab.on("pageerror", (error) => faults.push(error.stack ?? error.message));
  tab.on("console", (message) => { if (/Content Security Policy|TrustedHTML/.test(message.text())) faults.push(message.text()); });
  t.after(async () => {
    // A call that is being answered in the relay's place when the test ends has nobody to answer any more.
    await Promise.all(context.pages().map((page) => page.unrouteAll({ behavior: "ignoreErrors" })));
    await context.close();
    if (faults.length) throw new Error(`in the page: ${faults.join("\n")}`);
  });
  return tab;
}

/** The bodies of the decisions that the page sends from now on, as texts. */
export function sentBy(tab) {
  const sent = [];
  tab.on("request", (request) => { if (request.method() === "POST" && request.url().endsWith("/decision")) sent.push(request.postData()); });
  return sent;
}

/** The calls with several answers that the page sends from now on, each as the list of its answers. */
export function batchesBy(tab) {
  const sent = [];
  tab.on("request", (request) => { if (request.method() === "POST" && request.url().endsWith("/decisions")) sent.push(JSON.parse(request.postData()).decisions); });
  return sent;
}

/** The page, signed in, with the view given as a query string. */
export async function openPage(t, query = "", { as = stack.operators[0].token, at = stack.base_url, ...options } = {}) {
  const tab = await newTab(t, options);
  await tab.goto(`${at}/${query}#token=${as}`);
  return tab;
}

export const rows = (tab) => tab.locator("#list a.row");
export const titles = (tab) => tab.locator("#list a.row .title").allInnerTexts();
export const row = (tab, title) => tab.locator("#list a.row", { hasText: title });
export const focused = (tab) => tab.evaluate(() => document.activeElement.id || document.activeElement.className);

/** Waits until `read` gives what is expected, for as long as the page may take. */
export async function eventually(read, expected, what) {
  let last;
  for (const end = Date.now() + 20_000; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {
    last = await read();
    if (JSON.stringify(last) === JSON.stringify(expected)) return;
  }
  throw new Error(`${what ?? "waited for"} ${JSON.stringify(expected)}, but it is ${JSON.stringify(last)}`);
}
