// Draws the page's main states into docs/, on a stack with a few realistic requests.

import { setTimeout as pause } from "node:timers/promises";
import { digestOf } from "../../functions/decide/page/digest.js";
import { browser, PHONE } from "./browser.mjs";
import { addRule, answer, ask, call, decide, needApprovals, newAgent, personToken, stack } from "./stack.mjs";

const WIDE = { width: 960, height: 560 };
const [deploy, billing, mail] = await Promise.all(["deploy-agent", "billing-agent", "mail-agent"].map((id) => newAgent(id)));
const rollback = await deploy.ask({
  priority: "P1", title: "Roll back checkout-service to 4.18.2 in production",
  summary: "Error rate rose from 0.2 % to **6.1 %** eight minutes after 4.19.0 went out. The rollback takes about 90 s.",
  action: { type: "deploy.rollback", arguments: { service: "checkout-service", from: "4.19.0", to: "4.18.2", environment: "production" } },
  context: { error_rate_percent: [0.2, 0.3, 2.8, 6.1], on_call: "platform", "database_migrations_in_4.19.0": false },
});
const refund = await billing.ask({
  title: "Refund 1,240.00 EUR to customer 88213",
  summary: "Customer reports a **double charge** for order 55-1042.\n\n| Charge | Amount | Shipped |\n|---|---:|---|\n| ch_1 | 1,240.00 | yes |\n| ch_2 | 1,240.00 | no |",
  action: { type: "refund.create", arguments: { customer: "88213", amount: "1240.00", currency: "EUR", charge: "ch_2" } },
});
await deploy.ask({ title: "Delete 38 GB of build artefacts older than 90 days", action: { type: "storage.delete", arguments: { bucket: "build-artefacts", older_than_days: 90 } } });
await mail.ask({ title: "Send the price change notice to 4,112 customers", action: { type: "mail.send", arguments: { template: "price-change-2027", recipients: 4112 } } });
await mail.ask({ priority: "P3", title: "Answer the complaint of customer 20911", action: { type: "mail.send", arguments: { template: "apology", to: "20911" } } });
await billing.ask({ priority: "P3", title: "Write off invoice 2024-3312 (18.20 EUR)", action: { type: "invoice.write_off", arguments: { invoice: "2024-3312", amount: "18.20" } } });
const hostile = await mail.ask({
  priority: "P3", title: "Send \u202Etxt.exe\u202C to <script>alert(1)</script>", summary: "![pixel](https://evil.example/p.png) [Open the bank](https://evil.example/login)",
  action: { type: "mail.send", arguments: { to: "all\u200B@example.org", subject: "W".repeat(90) } },
});
const quick = [];
for (const [agent, title, type] of [
  [billing, "Refund 84.00 EUR to customer 71120", "refund.create"], [billing, "Refund 5,000.00 EUR to customer 10442", "refund.create"],
  [mail, "Send the outage notice to 310 customers", "mail.send"], [mail, "Send a voucher to customer 20911", "mail.send"],
]) quick.push({ ...await agent.ask({ title, action: { type, arguments: { note: title } } }), agentId: agent.agentId });
const agentOf = new Map(quick.map(({ request_id: id, agentId }) => [id, agentId]));
await deploy.poll();

async function draw(name, { query = "", hash = "", as = stack.operator.token, colorScheme = "light", phone = false, act = async () => {}, viewport = WIDE, ready = (tab) => tab.locator("#detail-title").waitFor() }) {
  const context = await browser.newContext({ viewport: phone ? PHONE : viewport, isMobile: phone, hasTouch: phone, colorScheme, reducedMotion: "reduce" });
  const tab = await context.newPage();
  await tab.goto(`${stack.base_url}/${query}#token=${as}`);
  if (hash) await tab.goto(`${stack.base_url}/${hash}`);
  await ready(tab);
  await act(tab);
  await pause(300);
  await tab.screenshot({ path: `docs/operator-page-${name}.png` });
  await context.close();
}

const open = (asked) => `?id=${asked.request_id}`;
await draw("request", { query: open(rollback) });
await draw("dark", { query: open(rollback), colorScheme: "dark", act: (tab) => tab.locator("#approve").click() });
await draw("phone", { query: open(refund), phone: true });
await draw("hostile", { query: open(hostile) });
await draw("kept", { query: open(refund), act: async (tab) => {
  await tab.locator("#reject").click();
  await tab.locator("#reason").fill("Ask the customer for the statement first.");
  await decide(refund.request_id, "approve", "Statement is in the ticket.");
  await tab.locator("#outcome").waitFor();
  const [given] = (await billing.poll()).decisions;
  await billing.acknowledge(given);
  await pause(1500);
} });
for (const [n, asked] of quick.entries()) await decide(asked.request_id, n === 3 ? "reject" : "approve", n === 3 ? "Wrong template" : null, stack.operators[n % 3].token);
for (const given of [...(await billing.poll()).decisions, ...(await mail.poll()).decisions]) {
  const agent = [billing, mail].find(({ agentId }) => agentOf.get(given.request_id) === agentId) ?? billing;
  if (given.request_id === quick[1].request_id) await agent.acknowledge(given, "failed", { code: "provider_declined", message: "The payment provider declined: the card has expired." });
  else await agent.acknowledge(given);
}
await draw("history", { query: `?status=decided&id=${quick[1].request_id}` });
await draw("history-phone", { query: "?status=decided", phone: true, ready: (tab) => tab.locator("#list .when").first().waitFor() });

// Answers, groups and permits.
const payout = { type: "payout.create", arguments: { customer: "88213", amount: "1240.00", currency: "EUR", lines: [{ order: "55-1042", amount: "1100.00" }, { order: "55-1043", amount: "140.00" }], notify: true } };
const schema = {
  type: "object", required: ["customer", "amount", "currency"], properties: {
    customer: { type: "string" }, amount: { type: "string", title: "Amount", description: "What the customer gets, in the currency below" }, currency: { enum: ["EUR", "USD", "GBP"] },
    lines: { type: "array", items: { type: "object", required: ["order", "amount"], properties: { order: { type: "string" }, amount: { type: "string" } } } }, notify: { type: "boolean" }, note: { type: "string", maxLength: 140 },
  },
};
const question = { type: "object", required: ["window", "days"], properties: { window: { enum: ["tonight", "next weekend", "not at all"], description: "When the migration may run" }, days: { type: "integer", minimum: 1, description: "Days to keep the old table" }, why: { type: "string" } } };
const ledger = await newAgent("ledger-agent");
const all = ["approve", "reject", "edit", "respond"];
const changed = await ledger.ask({ title: "Pay out 1,240.00 EUR to customer 88213", action: payout, summary: "Both orders came back. The customer asked for **one** transfer.", answers: all, edit_schema: schema });
const asks = await ledger.ask({ title: "When may the ledger's table be migrated?", action: { type: "question", arguments: { table: "ledger_entries", rows: 41_200_000 } }, answers: ["reject", "respond"], respond_schema: question });
const turn = [];
for (const to of ["Ann Lee", "Bo Chen", "Cy Moss"]) turn.push(await ledger.ask({ title: `Send the statement to ${to}`, group: "turn-17", action: { type: "mail.send", arguments: { to, template: "statement-2026-11" } } }));
const paid = await ledger.ask({ title: "Pay out 310.00 EUR to customer 20911", answers: all, action: { ...payout, arguments: { customer: "20911", amount: "310.00", currency: "EUR" } } });
const instead = { ...payout, arguments: { customer: "20911", amount: "155.00", currency: "EUR" } };
const digest = await digestOf(instead);
await answer(paid.request_id, { decision: "edit", arguments: instead.arguments, edited_action_digest: digest, reason: "The second order was never shipped." });
await ledger.consume(paid.request_id, digest);
await ledger.report(paid.request_id, "succeeded", { note: "Transfer 7710 is booked." });
const roomy = { width: 1280, height: 800 };
const field = (tab, name) => tab.locator(".answer-form").getByLabel(name, { exact: true });
const edit = async (tab) => {
  await tab.locator("#edit").click();
  await field(tab, "amount Amount").fill("1100.00");
  await tab.getByRole("button", { name: "Remove lines 2" }).click();
  await field(tab, "note (optional)").fill("55-1043 was never paid");
  await tab.locator(".answer-fields").evaluate((el) => { el.scrollTop = 0; });
};
await draw("edit", { viewport: roomy, query: open(changed), act: edit });
await draw("edit-dark", { viewport: roomy, colorScheme: "dark", query: open(changed), act: edit });
await draw("edit-phone", { phone: true, query: open(changed), act: edit });
await draw("respond", { query: open(asks), act: async (tab) => { await tab.locator("#respond").click(); await field(tab, "window").selectOption("\"next weekend\""); } });
await draw("group", { viewport: roomy, query: open(turn[0]), ready: (tab) => tab.locator(".group-list li").first().waitFor() });
await draw("group-all", { viewport: roomy, query: open(turn[0]), ready: (tab) => tab.locator(".group-list li").first().waitFor(), act: async (tab) => { await tab.getByRole("button", { name: "Approve all 3" }).click(); await tab.locator(".batch-list li").nth(2).waitFor(); } });
await draw("carried-out", { viewport: roomy, query: `?status=decided&id=${paid.request_id}`, ready: (tab) => tab.locator(".sides").waitFor() });

// Several people, and several requests.
const [, ben, cleo] = stack.operators;
const payments = await newAgent("payments-agent");
await needApprovals(payments, 3);
await addRule(payments, { groups: ["finance"], reroute_to: ["ops"], approvals: 3 });
const transfer = await payments.ask({ title: "Transfer 48,000.00 EUR to Northwind Supplies", summary: "Invoice 2026-1180, due on Monday. **New bank account** since October.", action: { type: "transfer.create", arguments: { to: "Northwind Supplies", iban: "DE02 1203 0000 0000 2020 51", amount: "48000.00", currency: "EUR" } } });
await answer(transfer.request_id, { decision: "approve", action_digest: transfer.action_digest, reason: "Account confirmed by phone." }, ben.token);
await ask(cleo, "PUT", `requests/${transfer.request_id}/claim`, { seconds: 600 });
const until = new Date(Date.now() + 9 * 86_400_000).toISOString();
await ask(ben, "GET", "me");
await ask(stack.operator, "PUT", "delegations/holidays", { to: ben.id, groups: ["finance"], until, reason: "Holidays" });
await ask(cleo, "PUT", "delegations/week-49", { to: stack.operator.id, groups: ["finance"], until, reason: "At the auditors" });
const statements = [];
for (const to of ["Ann Lee", "Bo Chen", "Cy Moss", "Di Park"]) statements.push(await ledger.ask({ title: `Send the reminder to ${to}`, action: { type: "reminder.send", arguments: { to, invoice: "2026-11" } } }));
const select = async (tab) => {
  for (const to of ["Ann Lee", "Bo Chen", "Cy Moss"]) await tab.getByRole("checkbox", { name: `Select Send the reminder to ${to}` }).check();
  await tab.locator("#picked-approve").click();
  await tab.locator(".batch-list li").nth(2).waitFor();
};
const listed = { query: "?type=reminder.send", ready: (tab) => tab.locator("#list .pick").nth(3).waitFor(), act: select };
const people = { viewport: roomy, query: open(transfer), ready: (tab) => tab.locator("#take-over").waitFor() };
await draw("votes", people);
await draw("votes-phone", { ...people, viewport: undefined, phone: true });
await draw("several", { viewport: roomy, ...listed });
await draw("several-phone", { phone: true, ...listed });
await draw("several-done", { viewport: roomy, colorScheme: "dark", ...listed, act: async (tab) => {
  await select(tab);
  await decide(statements[1].request_id, "reject", "Paid yesterday", cleo.token);
  await tab.keyboard.press("ControlOrMeta+Enter");
  await tab.getByText("2 of 3 requests answered").waitFor();
} });
await draw("delegations", { viewport: roomy, query: open(transfer), act: async (tab) => {
  await tab.locator("#operator").click();
  await tab.locator("#delegations").click();
  await tab.getByText("Holidays").waitFor();
} });

// Rules, of a tenant of their own.
const { token: acme } = stack.admins.find(({ tenant }) => tenant === "acme");
const admin = personToken({ sub: "rules-ada", name: "Ada Winter", roles: ["operator", "admin"], tenant: "acme" });
const refunds = await newAgent("refund-agent", acme);
async function setRules(all, note) {
  const { json: { version } } = await call("/v1/admin/rules", { token: acme });
  await call("/v1/admin/rules", { token: acme, method: "PUT", headers: { "if-match": `"${version}"` }, body: { rules: all, note } });
}
const returned = (amount) => refunds.ask({ title: `Refund ${amount} EUR to customer 88213`, action: { type: "refund.create", arguments: { amount, currency: "EUR", customer: "88213" } } });
for (const [amount, decision, reason] of [["12.00", "approve", null], ["18.50", "approve", "Known customer"], ["40.00", "reject", "Asked twice for the same order"], ["75.00", "approve", null]]) {
  await answer((await returned(amount)).request_id, { decision, reason }, admin);
}
const document = [
  { name: "Production deploys need two", mode: "enforce", match: { action_types: ["deploy.*"], arguments: { "/environment": { equals: "production" } } }, then: { ask: { groups: ["platform", "on-call"], approvals: 2, respond_within_seconds: 900, escalate: { after_percent: 50, groups: ["management"] }, on_timeout: "auto_reject" } } },
  { name: "Refunds above 500 go to finance", mode: "enforce", match: { action_types: ["refund.create"], arguments: { "/amount": { gt: 500 } } }, then: { ask: { groups: ["finance"], approvals: 2 } } },
  { name: "Small refunds", mode: "shadow", match: { agents: ["refund-agent"], action_types: ["refund.create"], arguments: { "/amount": { lte: 50 }, "/currency": { in: ["EUR", "USD"] } } }, then: { decide: "approve", reason: "Small, and in a currency that we book ourselves", at_most: { count: 5, per_seconds: 3600 } } },
  { name: "No gifts", mode: "off", match: { action_types: ["gift.*"] }, then: { decide: "reject", reason: "Gifts go through the people team" } },
];
await setRules(document.slice(0, 2), "Two for production, after the incident of last week");
await setRules(document, "Small refunds are watched for a week first");
for (const amount of ["5.00", "640.00", "31.00"]) await returned(amount);
const rule = (name) => `#rules/${encodeURIComponent(name)}`;
const opened = { as: admin, viewport: { width: 1440, height: 900 }, hash: rule("Small refunds"), ready: (tab) => tab.locator(".rule-title").waitFor() };
const tryIt = async (tab) => {
  await tab.getByRole("tab", { name: "Try" }).click();
  await tab.locator("#try-start").click();
  await tab.locator(".try-examples a", { hasText: "Refund 40.00" }).waitFor();
};
await draw("rules", opened);
await draw("rules-try", { ...opened, act: tryIt });
await draw("rules-dark", { ...opened, colorScheme: "dark", act: tryIt });
await draw("rules-phone", { ...opened, viewport: undefined, phone: true });
await draw("rules-conflict", { ...opened, act: async (tab) => {
  await tab.locator(".rule-form").getByText("Enforced").click();
  await tab.locator("#rules-note").fill("A week has passed");
  await setRules(document.slice(0, 3), "Gifts are decided elsewhere");
  await tab.locator("#rules-save").click();
  await tab.getByText("See what they changed").click();
} });

// The report.
const head = personToken({ sub: "report-head", name: "Hedda Lind", roles: ["operator", "admin"], groups: ["ops"] });
const table = (tab) => tab.locator(".report-table").waitFor();
await draw("report", { as: head, viewport: roomy, hash: "#report?by=agent", ready: table });
await draw("report-phone", { as: head, phone: true, colorScheme: "dark", hash: "#report", ready: table });
await browser.close();
