// RelayTrace's TypeScript SDK without a framework: a program that asks before each call.

import { RelayError, Responded, StillPending, textForModel } from "../../../sdk/typescript/dist/index.js";
import { Cannot, newRelay, plan, refund, waitSeconds } from "./plan.mjs";

const ANSWERS = ["approve", "reject", "edit", "respond"];

export async function relaytrace() {
  if (plan.nested) throw new Cannot("No agents: a client without a framework has none to nest.");
  const relay = await newRelay();
  let paused = false;
  const told = await Promise.all(
    plan.calls.map(async (amount, number) => {
      const options = { key: `${plan.run}:${number}`, answers: ANSWERS, waitSeconds };
      try {
        return await relay.ask("refund", { amount }, options, (permit) => refund(permit.arguments));
      } catch (error) {
        if (!(error instanceof RelayError)) throw error;
        paused ||= error instanceof StillPending;
        return error instanceof Responded ? String(error.value) : textForModel(error);
      }
    }),
  );
  return [paused, told];
}
