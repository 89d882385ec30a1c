// What happened to a request, in order: submitted, escalated, decided, delivered, acknowledged,
// each with its actor and time, and the chain's head that a receipt can be held against.

import { h, copyButton, safeText } from './dom.js';
import { now, relative, timeNode } from './time.js';
import { chainOf, decisionWords } from './state.js';
import { entryFacts } from './execution.js';

const KINDS = {
  submitted: 'Submitted', escalated: 'Escalated', extended: 'Time extended', reprioritised: 'Priority changed',
  decided: 'Decided', acknowledged: 'Acknowledged by the agent', dead_lettered: 'Dead-lettered', replayed: 'Sent again',
  voted: 'Voted', rerouted: 'Rerouted', consumed: 'Permit used', outcome: 'Outcome',
};
// Said elsewhere, or for programs.
const KNOWN = new Set(['seq', 'kind', 'at', 'actor', 'hash', 'prev_hash', 'entry', 'request_id', 'action_digest', 'requested_action_digest', 'response_digest', 'edited', 'consume_key', 'envelope_sha256', 'outcome', 'cause', 'reason', 'details', 'policy_id']);
const ISO = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/;

/** The rule that acted, {name, version}, or null: its id is "rule:<name>@<version>". */
function ruleOf(actor) {
  const [, name, version] = /^rule:(.*)@(\d+)$/s.exec(actor?.kind === 'system' ? actor.id ?? '' : '') ?? [];
  return name === undefined ? null : { name, version };
}

/** A rule's name and version. */
const ruleNodes = ({ name, version }) => ['the rule ', h('code', { class: 'rule-name-of' }, safeText(String(name), true)), ` (version ${version})`];

/** Who acted, as a name and, where it differs, the id behind it. */
export function actorNodes(actor) {
  if (!actor) return [];
  if (ruleOf(actor)) return ruleNodes(ruleOf(actor));
  const kind = { system: 'the system', operator: 'operator', admin: 'admin', agent: 'agent' }[actor.kind] ?? actor.kind ?? '';
  const name = h('bdi', { class: 'actor', title: `${kind} ${actor.id ?? ''}`.trim() }, safeText(actor.name || actor.id || kind));
  const role = actor.kind === 'operator' || !kind ? '' : ` (${kind})`;
  const person = actor.for;
  const whom = person?.id ? [' for ', h('bdi', { class: 'actor', title: `operator ${person.id}` }, safeText(person.name || person.id))] : '';
  return [name, role, whom].flat().filter(Boolean);
}

function details(entry) {
  const out = [];
  const all = { ...(entry.details && typeof entry.details === 'object' ? entry.details : {}), ...entry };
  if (all.reason) out.push(h('q', { class: 'reason', dir: 'auto' }, safeText(all.reason)));
  const rest = Object.entries(all).filter(([k, v]) => !KNOWN.has(k) && v !== null && typeof v !== 'object');
  const said = rest.map(([k, v]) => [`${k.replaceAll('_', ' ')}: `, ISO.test(v) ? timeNode(v) : safeText(String(v).replaceAll('_', ' '))]);
  if (rest.length) out.push(h('span', { class: 'extra' }, said.map((words, n) => [n ? ' · ' : '', words])));
  return out;
}

function entryNode(entry) {
  const all = { ...entry.details, ...entry };
  const title = entry.kind === 'decided' && all.outcome ? `Decided: ${decisionWords(all)}`
    : entry.kind === 'outcome' ? `Outcome: ${entryFacts(entry).state ?? 'unknown'}` : KINDS[entry.kind] ?? safeText(String(entry.kind), true);
  return h('li', { 'data-kind': entry.kind },
    h('p', { class: 'what' }, h('strong', {}, title), ' ', h('span', { class: 'by' }, entry.actor ? 'by ' : '', actorNodes(entry.actor))),
    h('p', { class: 'when' }, timeNode(entry.at), entry.hash ? h('code', { class: 'hash', title: entry.hash }, entry.hash.slice(0, 15)) : ''),
    ...details(entry).map((d) => h('p', {}, d)));
}

/** What the chain does not hold: that the agent was handed the decision, or that it was not yet. */
function deliveryNode({ state, attempt, delivered_at: at, error }, agentId) {
  const handed = Boolean(at);
  const title = handed ? 'Delivered' : 'Not delivered yet';
  const open = state === 'leased' ? 'not acknowledged yet' : state === 'ready' ? 'waiting for the agent to ask' : '';
  return h('li', { class: open ? 'open' : null },
    h('p', { class: 'what' }, h('strong', {}, title), ' ', handed ? h('span', { class: 'by' }, 'to ', actorNodes({ kind: 'agent', id: agentId })) : ''),
    h('p', { class: 'when' }, handed ? timeNode(at) : '', [attempt > 1 ? `attempt ${attempt}` : '', open].filter(Boolean).map((words) => `${handed ? ' · ' : ''}${words}`)),
    error ? h('p', { class: 'error', dir: 'auto' }, 'the agent reported: ', safeText([error.code, error.message].filter(Boolean).join(': ') || 'a failure, without words')) : '');
}

/** The chain's entries, and among them, by its time, where the decision's delivery stands. */
export function traceList(detail) {
  const { entries } = chainOf(detail);
  const nodes = entries.map(entryNode);
  const { delivery } = detail;
  if (delivery) {
    const at = Date.parse(delivery.delivered_at ?? '');
    const later = entries.findIndex((entry) => Date.parse(entry.at) > at);
    nodes.splice(later < 0 ? nodes.length : later, 0, deliveryNode(delivery, detail.agent_id));
  }
  return h('ol', { class: 'trace' }, nodes);
}

export function traceFoot(detail) {
  const { length, head } = chainOf(detail);
  return h('div', { class: 'trace-foot' },
    head ? h('p', {}, `Chain head, ${length} ${length === 1 ? 'entry' : 'entries'}`, h('code', { class: 'digest' }, head)) : '',
    head ? copyButton('Copy chain head', () => head) : '',
    typeof detail.receipt === 'string' && detail.receipt ? copyButton('Copy receipt', () => detail.receipt) : '');
}

/** Is the agent still waiting? A long poll lasts up to 20 s, so one seen within 30 s is waiting now. */
export function agentPresence(detail, at = now()) {
  const seen = Date.parse(detail.agent_last_polled_at ?? '');
  if (!Number.isFinite(seen)) return { state: 'never', text: 'agent has not asked for an answer yet' };
  if (at - seen < 30_000) return { state: 'now', text: 'agent is waiting now' };
  return { state: 'away', text: `agent last seen ${relative(detail.agent_last_polled_at, at)}` };
}
