// Points 5 and 16: what a compromised agent may send neither executes, nor breaks the layout, nor hides the action.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, openPage, PHONE, row } from "./browser.mjs";
import { decide, newAgent } from "./stack.mjs";

const SCRIPT = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'><svg onload='window.hit = 1'>";
const WIDEST = "W".repeat(200);
const RTL = "\u202Etxt.exe\u202C \u2066isolated \u200Bzero\u200D width\u00AD \u{E0041}tag";

/** Nothing sticks out sideways, and the buttons can be pressed. */
async function laysOut(tab) {
  assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "the page scrolls sideways");
  assert.equal(await tab.locator(".detail-scroll").evaluate((el) => el.scrollWidth <= el.clientWidth), true, "the request scrolls sideways");
  const box = await tab.locator("#approve").boundingBox();
  const { width, height } = tab.viewportSize();
  assert.ok(box.x >= 0 && box.x + box.width <= width && box.y + box.height <= height, "Approve is out of sight");
  const action = await tab.locator(".action-name").boundingBox();
  assert.ok(action.y > 0 && action.y < height - 150, "the action is out of sight");
}

for (const [where, options] of [["wide", {}], ["360 px wide", { viewport: PHONE }]]) {
  test(`markup, endless words and reversed text stay text, ${where}`, async (t) => {
    const agent = await newAgent();
    const asked = await agent.ask({
      title: `${RTL} ${SCRIPT}`.slice(0, 200),
      summary: `${SCRIPT}\n\n# ${WIDEST}\n\n- ${RTL}\n\n| a | b |\n|---|---|\n| ${WIDEST} | ${SCRIPT.replaceAll("|", "")} |`,
      action: { type: "x".repeat(64), arguments: { [WIDEST]: WIDEST, [SCRIPT]: SCRIPT, [RTL]: RTL, "": "", ["__proto__"]: "own", visible: "to the end" } },
      context: { [WIDEST]: [WIDEST, { [SCRIPT]: RTL }], ["__proto__"]: { polluted: true }, constructor: "c", toString: 1 },
    });
    const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, options);
    await tab.getByText("matches what is shown", { exact: true }).waitFor();
    await laysOut(tab);
    assert.equal(await tab.evaluate(() => window.hit), undefined);
    assert.equal(await tab.locator("#main").locator("script, img, svg, iframe").count(), 0);
    const action = await tab.locator(".action-box").innerText();
    for (const part of [SCRIPT, WIDEST, "to the end", "U+202E", "U+200B"]) assert.ok(action.includes(part), part);
    assert.doesNotMatch(await tab.locator("body").innerText(), /[\u202A-\u202E\u2066-\u2069\u{E0000}-\u{E007F}]/u);
    assert.equal(await tab.locator(".prose table").count(), 1);
    await decide(asked.request_id, "reject", `${SCRIPT} ${RTL} ${WIDEST}`);
    await tab.locator("#outcome").waitFor();
    assert.ok((await tab.locator("#outcome .reason").innerText()).includes(SCRIPT));
    assert.equal(await tab.evaluate(() => window.hit), undefined);
    assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    await tab.goto(`${new URL(tab.url()).origin}/?status=all&agent_id=${agent.agentId}`);
    await row(tab, "U+202E").waitFor();
    assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  });

  test(`30 levels and 200 KiB of context leave the action in sight, ${where}`, async (t) => {
    const agent = await newAgent();
    const nest = (levels, inner) => (levels ? { [`level ${levels}`]: nest(levels - 1, inner) } : inner);
    const asked = await agent.ask({
      title: "Deep and heavy", action: { type: "refund.create", arguments: nest(27, ["bottom"]) },
      context: { deep: nest(28, "ground"), heavy: Array.from({ length: 2000 }, (_, n) => `${n} ${"x".repeat(90)}`), one: "y".repeat(15_000) },
    });
    const tab = await openPage(t, `?agent_id=${agent.agentId}&id=${asked.request_id}`, options);
    await tab.getByText("matches what is shown", { exact: true }).waitFor();
    await laysOut(tab);
    assert.ok((await tab.locator(".action-box").innerText()).includes("bottom"));
    assert.ok(await tab.locator(".context *").count() < 2000, "what is folded is not drawn");
    const fold = tab.locator(".context summary", { hasText: "list of 2,000" });
    await fold.click();
    await tab.getByRole("button", { name: "Show more (1,900 left)" }).click();
    await tab.getByRole("button", { name: "Show all 15,000 characters" }).click();
    let unfolded = 1;
    const ground = tab.getByText("ground", { exact: false }).first();
    const folded = tab.locator(".context details:not([open]) > summary").first();
    // What a click unfolds is drawn after it: wait for the bottom or for the next fold.
    for (;; unfolded += 1) {
      await ground.or(folded).first().waitFor();
      if (await ground.isVisible()) break;
      await folded.click();
    }
    assert.ok(unfolded < 12, `${unfolded} clicks to unfold 30 levels`);
    assert.equal(await tab.locator(".detail-scroll").evaluate((el) => el.scrollWidth <= el.clientWidth), true);
  });
}

test("a summary is Markdown's harmless part: no image is loaded, a link shows where it goes", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ summary: [
    "# Heading", "Some **bold**, *soft*, ~~gone~~ and `code`.", "", "1. first", "   - inner", "2. second", "", "> quoted", "",
    "    indented code <b>", "", "```", "fenced <i>", "```", "", "| Name | Sum |", "|:-----|----:|", "| A \\| B | **12** |", "| only one |", "",
    "[the docs](https://docs.example.org/page) [a trap](javascript:window.hit=1) [another](data:text/html,x) ![pixel](https://evil.example/pixel.png)",
    "<https://plain.example/x> &lt;b&gt; [https://bank.example](https://evil.example/)",
  ].join("\n"), context: { resume: "not this", shown: "yes" }, resume: { secret: "never shown" } });
  const tab = await openPage(t, "");
  const outside = [];
  tab.on("request", (request) => { if (!request.url().startsWith(new URL(tab.url()).origin)) outside.push(request.url()); });
  await tab.goto(`${new URL(tab.url()).origin}/?id=${asked.request_id}`);
  const prose = tab.locator(".prose");
  await prose.waitFor();
  const shape = await prose.evaluate((el) => [...el.querySelectorAll("*")].map((one) => one.tagName.toLowerCase()).filter((tag) => !["bdi", "span", "p", "br"].includes(tag)));
  assert.deepEqual([...new Set(shape)].sort(), ["a", "blockquote", "code", "del", "em", "li", "ol", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"].sort());
  assert.deepEqual(await prose.locator("pre").allInnerTexts(), ["indented code <b>", "fenced <i>"]);
  assert.deepEqual(await prose.locator("tr").evaluateAll((all) => all.map((tr) => [...tr.children].map((cell) => cell.textContent))), [["Name", "Sum"], ["A | B", "12"], ["only one", ""]]);
  const links = await prose.locator("a").evaluateAll((all) => all.map((a) => [a.textContent, a.href, a.target, a.rel.includes("noopener"), a.nextElementSibling?.className === "target" ? a.nextElementSibling.textContent : ""]));
  assert.deepEqual(links, [
    ["the docs", "https://docs.example.org/page", "_blank", true, "(https://docs.example.org/page)"],
    ["https://plain.example/x", "https://plain.example/x", "_blank", true, ""],
    ["https://bank.example", "https://evil.example/", "_blank", true, "(https://evil.example/)"],
  ]);
  const text = await prose.innerText();
  for (const part of ["javascript:window.hit=1", "image not loaded: pixel https://evil.example/pixel.png", "&lt;b&gt;"]) assert.ok(text.includes(part), part);
  assert.deepEqual(outside, []);
  // The context is for reading, and what is for the agent only is not there.
  assert.match(await tab.locator(".context").innerText(), /shown\s+yes/);
  assert.ok(!(await tab.locator("body").innerText()).includes("never shown"));
});

test("the page's policy lets nothing be loaded, framed, posted or run that is not its own", async (t) => {
  const tab = await openPage(t);
  const answer = await tab.reload();
  const headers = answer.headers();
  for (const part of ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"]) {
    assert.ok(headers["content-security-policy"].includes(part), part);
  }
  assert.deepEqual([headers["x-content-type-options"], headers["referrer-policy"]], ["nosniff", "no-referrer"]);
  const html = await answer.text();
  assert.doesNotMatch(html, /<script(?![^>]* src=)|\son\w+=|style=/);
});

test("numbers and words never break in a table: it scrolls instead, by keyboard too", async (t) => {
  const agent = await newAgent();
  const asked = await agent.ask({ title: "Money", summary: "| Cost centre | Charge of the payment provider | Amount | Balance afterwards |\n|---|---|---:|---|\n| internationalisation | ch_1QxYz | 5,000.00 EUR | 1 234 567.89 EUR |" });
  const tab = await openPage(t, `?id=${asked.request_id}`, { viewport: PHONE });
  await tab.getByText("matches what is shown", { exact: true }).waitFor();
  await laysOut(tab);
  const lines = await tab.locator(".prose td, .prose th").evaluateAll((cells) => cells.flatMap((cell) => {
    const broken = [];
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (const { 0: part, index } of node.data.matchAll(/[\d .,]*\d[\d .,]*( EUR)?|\S+/g)) {
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + part.trimEnd().length);
        if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(part);
      }
    }
    return broken;
  }));
  assert.deepEqual(lines, []);
  const table = tab.getByRole("table");
  assert.ok(await table.evaluate((el) => el.scrollWidth > el.clientWidth), "the table is wider than its place");
  await table.focus();
  await tab.keyboard.press("ArrowRight");
  await tab.keyboard.press("ArrowRight");
  await eventually(() => table.evaluate((el) => el.scrollLeft > 0), true, "it scrolls");
});
