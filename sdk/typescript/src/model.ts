/** Questions and answers, as the contract names their members ("Submit", "Poll and acknowledge"). */

import type { webcrypto } from "node:crypto";
import type { Json, JsonObject } from "./json.js";

/** How urgent a question is: by default 15 minutes, 4 hours, 24 hours. */
export type Priority = "P1" | "P2" | "P3";

/** What the agent can take for an answer. */
export type Answer = "approve" | "reject" | "edit" | "respond";

/** Somebody or something that acted. */
export interface Actor {
  /** `operator`, `admin`, `agent` or `system`; another value may come. */
  kind: string;
  /** The id of that kind; of a rule `rule:<name>@<version>`. */
  id: string;
  /** The person's name. */
  name?: string | null;
}

/** What can be said with a question. */
export interface Question {
  /** The question in one line, 1 to 200 characters. By default made of the type and the first arguments. */
  title?: string;
  /** `P2` by default. */
  priority?: Priority;
  /** The agent's own key, `[A-Za-z0-9._:-]{1,128}`: the same key with the same question is the same request. */
  key?: string;
  /** Markdown for the operator, up to 8,000 characters. */
  summary?: string;
  /** For the operator's eyes. */
  context?: JsonObject;
  /** Comes back with the decision, shown to nobody. */
  resume?: JsonObject;
  /** A deadline of the agent's own; it may shorten the policy's time. */
  respondBy?: Date;
  /** `["approve", "reject"]` by default. */
  answers?: Answer[];
  /** JSON Schema 2020-12 for edited arguments. */
  editSchema?: JsonObject;
  /** JSON Schema 2020-12 for a response. */
  respondSchema?: JsonObject;
  /** Requests that belong together, such as the calls of one turn. */
  group?: string;
  /** The person for whom the agent acts, who may not approve it. */
  onBehalfOf?: { id: string; name?: string };
  /** How long an approval may be used, 10 to 86,400 s. */
  permitSeconds?: number;
}

/** The one final outcome of a request. Sets are open: what is not known here is not an approval. */
export interface Decision {
  request_id: string;
  client_request_key: string;
  outcome: "approved" | "rejected" | "cancelled" | "responded" | (string & {});
  /** `operator`, `timeout`, `admin`, `agent`, `policy`. */
  cause: string;
  decided_at: string;
  decided_by: Actor;
  reason: string | null;
  /** Of the action that was decided on: the edited one where it was edited. */
  action_digest: string;
  /** Of the action that was asked about, where it was edited. */
  requested_action_digest?: string | null;
  edited?: boolean;
  /** The edited action. */
  action?: { type: string; arguments: JsonObject } | null;
  /** The answer, where the outcome is `responded`. */
  response?: Json;
  resume?: JsonObject | null;
  /** Names this delivery; none where the decision was only read. */
  delivery_id?: string | null;
  attempt?: number;
  replayed?: boolean;
  chain: { length: number; head: string };
  /** A compact JWS. */
  receipt: string;
  /** Until when the approval may be used. */
  permit?: { expires_at: string } | null;
}

/** A request as it stands (contract, "The agent's view"). */
export interface RequestState {
  agent_id: string;
  request_id: string;
  client_request_key: string;
  status: "pending" | "decided" | (string & {});
  priority: Priority;
  created_at: string;
  /** Until when a person may answer. */
  respond_by: string;
  /** Of the action. */
  action_digest: string;
  /** The key had been asked with before: this is the request of then. */
  duplicate?: boolean;
  /** Once there is one. */
  decision?: Decision | null;
}

/** The claims of a receipt. */
export interface Receipt {
  iss: string;
  sub: string;
  iat: number;
  agent_id: string;
  client_request_key: string;
  action_type: string;
  action_digest: string;
  outcome: string;
  cause: string;
  decided_by: Actor;
  decided_at: string;
  /** The operators' approvals where one was not enough, the deciding one last. */
  votes?: { voted_by: Actor; voted_at: string }[];
  chain_head: string;
  chain_length: number;
}

/** A JSON Web Key Set. */
export interface ReceiptKeys {
  keys: (webcrypto.JsonWebKey & { kid?: string; use?: string })[];
}
