// What one process of one agent on Node is to do: `Plan` of play.py, by standard input.

import { appendFileSync, readFileSync } from "node:fs";

/** The framework has no way to express the situation. */
export class Cannot extends Error {}

export const plan = JSON.parse(readFileSync(0, "utf8"));
export const file = (name) => `${plan.folder}/${name}`;
/** How long an adapter waits in this process. */
export const waitSeconds = plan.pause ? 0 : 25;

/** What every guarded tool does. */
export async function refund({ amount }) {
  appendFileSync(file("ledger"), `${amount}\n`);
  if (plan.hang) await new Promise((resolve) => setTimeout(resolve, 120_000));
  return `refunded ${amount}`;
}

/** What the person says to a call. Where its stored amount was changed: what was said to the call. */
export const answerTo = (amount) => plan.answers[amount] ?? Object.values(plan.answers)[0];
export const isAnswered = Object.keys(plan.answers).length > 0;

export function hasNoDeadline(ways) {
  if (plan.deadline)
    throw new Cannot(`No deadline: ${ways}; a pending call waits until somebody resumes it, as the cell of day 8 shows.`);
}

/** Where a person's answer is of a kind that the framework does not have. */
export function doesNotSay(decision, reason) {
  if (Object.values(plan.answers).some((answer) => answer.decision === decision)) throw new Cannot(reason);
}

export const newRelay = async () => {
  const { Relay } = await import("../../../sdk/typescript/dist/index.js");
  return new Relay(plan.relay);
};

if (plan.days) {
  const ahead = plan.days * 86_400_000;
  const { now } = Date;
  Date.now = () => now() + ahead;
  globalThis.Date = class extends Date {
    constructor(...parts) {
      super(...(parts.length ? parts : [Date.now()]));
    }
  };
}
