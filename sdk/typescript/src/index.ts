/** Asks a person before an agent acts. See README.md. */

export type { RelayOptions } from "./configuration.js";
export {
  AlreadyUsed,
  Cancelled,
  ConfigurationError,
  ContractBroken,
  Frozen,
  KeyReused,
  NoAnswer,
  NotApproved,
  OtherAnswer,
  PermitExpired,
  PermitRevoked,
  type Problem,
  Refused,
  Rejected,
  RelayError,
  Responded,
  StillPending,
  TimedOut,
  TooSlow,
  textForModel,
  Unavailable,
  Undecided,
  UnknownOutcome,
  Unreachable,
  UnsupportedValue,
  Unverified,
  WrongClock,
  WrongDeployment,
  WrongKey,
  WrongReceipt,
  WrongSecret,
  WrongUrl,
} from "./errors.js";
export { type Action, actionDigest, type Json, type JsonObject } from "./json.js";
export type * from "./model.js";
export { Permit } from "./permit.js";
export { verifyReceipt } from "./receipt.js";
export { type AskOptions, type GuardOptions, Relay, type Request, type WaitOptions } from "./relay.js";
