// What is looked at, as a URL and back, and the small rules of the queue. Pure functions only.

export const STATUSES = ['pending', 'decided', 'all'];
export const PRIORITIES = ['P1', 'P2', 'P3'];
export const OUTCOMES = ['approved', 'rejected', 'responded', 'cancelled'];
/** What an operator may answer, in the order of the buttons; what the agent can take of it stands in `answers`. */
export const ANSWERS = ['approve', 'edit', 'respond', 'reject'];
export const offered = ({ answers }) => (Array.isArray(answers) ? ANSWERS.filter((one) => answers.includes(one)) : ['approve', 'reject']);
const PAGE_OF_A_HISTORY = ['outcome', 'failed', 'decidedBy', 'from', 'to']; // what only a decided request has

/** Plain filters: the member of a view, its name in an address and for the API, and the most characters it may have. */
const TEXTS = [['agent', 'agent_id', 63], ['q', 'q', 200], ['decidedBy', 'decided_by', 255], ['type', 'type', 128], ['group', 'group', 128]];
const TIMES = [['from', 'from'], ['to', 'to']];

/** URL search string -> view. Whatever it does not know falls back to the default view. */
export function parseView(search) {
  const q = new URLSearchParams(search);
  const status = STATUSES.includes(q.get('status')) ? q.get('status') : 'pending';
  const listed = (name, known) => known.filter((value) => (q.get(name) ?? '').split(',').includes(value));
  return {
    status,
    priority: listed('priority', PRIORITIES),
    ...Object.fromEntries(TEXTS.map(([member, name, most]) => [member, (q.get(name) ?? '').slice(0, most)])),
    ...Object.fromEntries(TIMES.map(([member, name]) => [member, Number.isNaN(Date.parse(q.get(name))) ? '' : q.get(name)])),
    outcome: listed('outcome', OUTCOMES),
    failed: q.get('delivery_state') === FAILED,
    mine: q.get('assigned_to') === 'me',
    id: requestId(q.get('id') ?? ''),
  };
}
const FAILED = 'dead_lettered';

/** The view without any filter. */
export const PLAIN = parseView('');

/** Any usual spelling of a UUID, as the API answers it; anything else as it is. */
function requestId(text) {
  const hex = text.toLowerCase().replace(/^urn:uuid:|[{}-]/g, '');
  return /^[0-9a-f]{32}$/.test(hex) ? hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-') : text;
}

/** View -> URL search string, defaults left out; "?" for the plain queue. */
export function viewUrl(view) {
  const q = new URLSearchParams();
  if (view.status !== 'pending') q.set('status', view.status);
  setFilters(q, view);
  if (view.id) q.set('id', view.id);
  return `?${q}`.replaceAll('%2C', ',');
}

function setFilters(q, view) {
  if (view.priority.length) q.set('priority', view.priority.join(','));
  for (const [member, name] of [...TEXTS, ...TIMES]) if (view[member]) q.set(name, view[member]);
  if (view.outcome.length) q.set('outcome', view.outcome.join(','));
  if (view.failed) q.set('delivery_state', FAILED);
  if (view.mine) q.set('assigned_to', 'me');
}

/** The same list? (The open request is not part of it.) */
export const listKey = (view) => viewUrl({ ...view, id: '' });

const FILTERS = Object.keys(PLAIN).filter((member) => !['status', 'id'].includes(member));
export const filtered = (view) => FILTERS.some((member) => String(view[member]) !== String(PLAIN[member]));
export const noFilters = Object.fromEntries(FILTERS.map((member) => [member, PLAIN[member]]));

/** What of a view's filters another tab understands: what is pending was not decided by anyone. */
export const forTab = (view, status) => ({ ...view, ...(status === 'pending' ? Object.fromEntries(PAGE_OF_A_HISTORY.map((member) => [member, PLAIN[member]])) : {}), status, id: '' });

/** View -> query of the queue's endpoint. */
export function listQuery(view, cursor, limit) {
  const q = new URLSearchParams({ status: view.status, limit: String(limit) });
  setFilters(q, view);
  if (cursor) q.set('cursor', cursor);
  return q.toString().replaceAll('%2C', ',');
}

export const isPending = (item) => Boolean(item) && item.status === 'pending';

/** The item `step` away from `id`; where `id` has left the list, its old place `index` counts. */
export function neighbour(items, id, index, step) {
  if (!items.length) return null;
  const at = items.findIndex((i) => i.request_id === id);
  if (at < 0 && !(index >= 0)) return items[0];
  const target = at >= 0 ? at + step : step > 0 ? index : index - 1;
  return items[Math.max(0, Math.min(items.length - 1, target))];
}

/** What to open after `id` was decided: the next pending one below it, else the nearest above. */
export function afterDecision(items, id) {
  const at = items.findIndex((i) => i.request_id === id);
  const below = items.slice(at + 1).find(isPending);
  return below ?? items.slice(0, Math.max(at, 0)).reverse().find(isPending) ?? null;
}

/** The same of a whole decision: an approval of another action than the asked one says so. */
export const decisionWords = ({ outcome, cause, edited }) => `${outcomeWords(outcome, cause)}${edited && outcome === 'approved' ? ' with changes' : ''}`;

/** The same as what an operator is told who has just made it. */
export const doneWords = (decision) => { const words = decision.cause === 'operator' ? decisionWords(decision) : decision.outcome; return words[0].toUpperCase() + words.slice(1); };

/** What did not happen, by the answer that was sent. */
export const NOT_DONE = { approve: 'Not approved:', edit: 'Not approved:', respond: 'Not answered:', reject: 'Not rejected:' };

/** Outcome and cause in words that never present a timeout as a person's "no". */
export function outcomeWords(outcome, cause) {
  if (cause === 'timeout') return outcome === 'approved' ? 'approved by timeout' : outcome === 'rejected' ? 'timed out' : `${outcome} by timeout`;
  if (cause === 'agent') return outcome === 'cancelled' ? 'cancelled by agent' : outcome;
  if (cause === 'admin') return `${outcome} by admin`;
  if (cause === 'policy') return `${outcome} by rule`;
  return outcome ?? 'decided';
}

/** A count as a text; of a capped one only its lower bound is known. */
export const atLeast = (count, counts) => `${count.toLocaleString('en')}${counts?.capped && count >= 10_000 ? '+' : ''}`;

/** How many of each priority are listed, as texts: '' where none of it can be, "12+" where more may follow. */
export function listedByPriority(view, items, more, counts) {
  const only = (member) => String(view[member]) === String(PLAIN[member]);
  if (view.status === 'pending' && FILTERS.every((member) => member === 'priority' || only(member))) {
    return Object.fromEntries(PRIORITIES.map((p) => [p, counts ? atLeast(counts[p] ?? 0, counts) : '']));
  }
  const last = view.status === 'decided' ? null : items.at(-1)?.priority; // the others come priority by priority
  return Object.fromEntries(PRIORITIES.map((p) => {
    if (view.priority.length && !view.priority.includes(p)) return [p, ''];
    return [p, counted(items, (item) => item.priority === p, more && !(last > p))];
  }));
}

/** How many of the items are meant; with `more` to come, at least so many. */
export const counted = (items, isMeant, more) => `${items.filter(isMeant).length.toLocaleString('en')}${more ? '+' : ''}`;

/** Whether a decision is known not to have been carried out: the agent reported a failure, or never took it. */
export const isFailed = (item) => item.delivery_state === 'dead_lettered' || item.execution === 'failed';

/** The person who decided, '' where it was none or it is said elsewhere. */
export const decider = ({ cause, decided_by: by }) => (by && (cause === 'operator' || cause === 'admin') ? by.name || by.id : '');

const EXECUTIONS = { waiting: 'not used yet', unused: 'never used', consumed: 'being carried out', succeeded: 'carried out', failed: 'agent reported: failed', unknown: 'result unknown' };
const DELIVERIES = { ready: 'agent has not fetched it', leased: 'agent has not confirmed it', acknowledged: 'agent has it', dead_lettered: 'never reached the agent' };

/** What became of a decision, in words; '' where nothing is known. */
export function fate(item) {
  if (item.delivery_error) {
    const said = item.delivery_error.code || item.delivery_error.message || 'no reason given';
    return item.outcome === 'approved' ? said : `agent failed: ${said}`; // "approved, failed" stands beside it
  }
  if (item.execution && item.execution !== 'none') return EXECUTIONS[item.execution] ?? String(item.execution);
  return DELIVERIES[item.delivery_state] ?? '';
}

/** The chain in either form the API may give it. */
export function chainOf(detail) {
  const chain = detail.chain;
  if (Array.isArray(chain)) return { entries: chain, length: chain.length, head: chain.at(-1)?.hash ?? null };
  const entries = chain?.entries ?? [];
  return { entries, length: chain?.length ?? entries.length, head: chain?.head ?? entries.at(-1)?.hash ?? null };
}
