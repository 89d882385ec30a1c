// axe-core in the page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** No violation of any of axe's rules, best practices included: all in light, those about colour again in dark. */
export async function check(tab, state) {
  if (!await tab.evaluate(() => "axe" in window)) await tab.evaluate(axe);
  for (const [colorScheme, only] of [["light", null], ["dark", { runOnly: { type: "rule", values: ["color-contrast", "link-in-text-block"] } }]]) {
    await tab.emulateMedia({ colorScheme });
    const found = await tab.evaluate(async (rules) => (await window.axe.run(document, { ...rules, preload: false, resultTypes: ["violations"] })).violations
      .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`), only);
    assert.deepEqual(found, [], `${state}, ${colorScheme}`);
  }
}
