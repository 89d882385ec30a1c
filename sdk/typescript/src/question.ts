/** The envelope of a question (contract, "Submit"). */

import { ConfigurationError } from "./errors.js";
import { type JsonObject, snapshot } from "./json.js";
import type { Question } from "./model.js";

const TYPE = /^[A-Za-z0-9_][A-Za-z0-9_./:%~-]{0,127}$/;
const KEY = /^[A-Za-z0-9._:-]{1,128}$/;
const MAX_TITLE = 200;

/** @throws {ConfigurationError} where type or key are not as the contract says, before anything is sent. */
export function envelopeOf(
  agentId: string,
  type: string,
  args: JsonObject,
  question: Question & { key: string; title: string },
) {
  if (!TYPE.test(type)) throw new ConfigurationError(`the action type ${JSON.stringify(type)} is not ${TYPE.source}`);
  if (!KEY.test(question.key))
    throw new ConfigurationError(`the key ${JSON.stringify(question.key)} is not ${KEY.source}`);
  const members = {
    summary: question.summary,
    context: question.context,
    resume: question.resume,
    respond_by: question.respondBy?.toISOString(),
    answers: question.answers,
    edit_schema: question.editSchema,
    respond_schema: question.respondSchema,
    group: question.group,
    on_behalf_of: question.onBehalfOf,
    permit_seconds: question.permitSeconds,
  };
  return {
    envelope_version: "1",
    agent_id: agentId,
    client_request_key: question.key,
    priority: question.priority ?? "P2",
    title: question.title,
    action: { type, arguments: args },
    ...snapshot(members),
  };
}

/** The type and the first scalar arguments, in one line. */
export function defaultTitle(type: string, args: JsonObject): string {
  const scalars = Object.entries(args).filter(([, value]) => typeof value !== "object");
  const shown = scalars.slice(0, 3).map(([name, value]) => `${name} ${value}`);
  const line = [type, shown.join(", ")]
    .filter(Boolean)
    .join(": ")
    .replace(/\p{Cc}+/gu, " ");
  return Array.from(line).slice(0, MAX_TITLE).join("");
}
