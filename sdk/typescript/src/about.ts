/**
 * Whether a verified answer is about what was asked (contract, "Signed responses").
 *
 * The signature covers the request's nonce, not its path or body, so that proxies may rewrite paths. A proxy that sends
 * the nonce of one question with the path of another therefore gets a signed answer to the other question. Only the
 * members of the answer tell the two apart.
 */

import type { Problem } from "./errors.js";

/** What a call asked about. What is undefined is not compared. */
export interface About {
  agentId: string;
  requestId?: string | undefined;
  key?: string | undefined;
  /** Digest of the action that was asked about. */
  digest?: string | undefined;
  deliveryId?: string | null | undefined;
}

type Members = Record<string, unknown>;

/** The first member that belongs to another question, in words; undefined where there is none. */
export function differenceOf(answer: unknown, about: About): string | undefined {
  const body = answer as Members;
  const polled = Array.isArray(body.decisions);
  const items = polled ? (body.decisions as Members[]) : [];
  return (
    differs("agent_id", body.agent_id, about.agentId) ??
    (polled ? undefined : differenceOfState(body, about)) ??
    items.map((decision) => differenceOfDecision(decision, about)).find((difference) => difference !== undefined)
  );
}

function differenceOfState(state: Members, about: About): string | undefined {
  const decision = state.decision as Members | null | undefined;
  const own: About = {
    agentId: about.agentId,
    requestId: state.request_id as string,
    key: (state.client_request_key as string | undefined) ?? about.key,
    digest: (state.action_digest as string | undefined) ?? about.digest,
  };
  return (
    differs("request_id", state.request_id, about.requestId) ??
    ("client_request_key" in state || about.key !== undefined
      ? differs("client_request_key", state.client_request_key, about.key)
      : undefined) ??
    ("action_digest" in state ? differs("action_digest", state.action_digest, about.digest) : undefined) ??
    ("delivery_id" in state ? differs("delivery_id", state.delivery_id, about.deliveryId) : undefined) ??
    (decision ? differenceOfDecision(decision, own) : undefined)
  );
}

function differenceOfDecision(decision: Members, about: About): string | undefined {
  // An edit names both digests; the one that was asked about is the one to compare.
  const requested = decision.requested_action_digest ?? decision.action_digest;
  return (
    differs("request_id", decision.request_id, about.requestId) ??
    differs("client_request_key", decision.client_request_key, about.key) ??
    differs("action_digest", requested, about.digest)
  );
}

/** As {@link differenceOf}, of a problem document that answers a call of `path`. */
export function differenceOfProblem(problem: Problem, path: string, about: About): string | undefined {
  const asked = path.split("?")[0] as string;
  // A proxy may serve the API below a path of its own.
  if (!problem.instance?.split("?")[0]?.endsWith(asked))
    return `its instance is ${problem.instance}, asked was ${asked}`;
  return problem.decision ? differs("decision", problem.decision.request_id, about.requestId) : undefined;
}

function differs(member: string, answered: unknown, asked: unknown): string | undefined {
  if (asked === undefined || answered === asked) return undefined;
  return `its ${member} is ${answered}, asked was ${asked}`;
}
