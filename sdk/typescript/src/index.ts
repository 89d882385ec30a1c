/** Asks a person before an agent acts. See README.md. */

export type { RelayOptions } from "./configuration.js";
export * from "./errors.js";
export { type Action, actionDigest, type Json, type JsonObject } from "./json.js";
export type * from "./model.js";
export { Permit } from "./permit.js";
export { verifyReceipt } from "./receipt.js";
export { type AskOptions, type GuardOptions, Relay, type Request, type WaitOptions } from "./relay.js";
