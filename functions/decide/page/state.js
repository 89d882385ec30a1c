// What is looked at, as a URL and back, and the small rules of the queue. Pure functions only.

export const STATUSES = ['pending', 'decided', 'all'];
export const PRIORITIES = ['P1', 'P2', 'P3'];

/** URL search string -> view. Whatever it does not know falls back to the default view. */
export function parseView(search) {
  const q = new URLSearchParams(search);
  const status = STATUSES.includes(q.get('status')) ? q.get('status') : 'pending';
  const wanted = (q.get('priority') ?? '').split(',');
  return {
    status,
    priority: PRIORITIES.filter((p) => wanted.includes(p)),
    agent: (q.get('agent_id') ?? '').slice(0, 63),
    q: (q.get('q') ?? '').slice(0, 200),
    id: requestId(q.get('id') ?? ''),
  };
}

/** Any usual spelling of a UUID, as the API answers it; anything else as it is. */
function requestId(text) {
  const hex = text.toLowerCase().replace(/^urn:uuid:|[{}-]/g, '');
  return /^[0-9a-f]{32}$/.test(hex) ? hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-') : text;
}

/** View -> URL search string, defaults left out; "?" for the plain queue. */
export function viewUrl(view) {
  const q = new URLSearchParams();
  if (view.status !== 'pending') q.set('status', view.status);
  if (view.priority.length) q.set('priority', view.priority.join(','));
  if (view.agent) q.set('agent_id', view.agent);
  if (view.q) q.set('q', view.q);
  if (view.id) q.set('id', view.id);
  return `?${q}`.replaceAll('%2C', ',');
}

/** The same list? (The open request is not part of it.) */
export const listKey = (view) => viewUrl({ ...view, id: '' });

export const filtered = (view) => Boolean(view.priority.length || view.agent || view.q);

/** View -> query of the queue's endpoint. */
export function listQuery(view, cursor, limit) {
  const q = new URLSearchParams({ status: view.status, limit: String(limit) });
  if (view.priority.length) q.set('priority', view.priority.join(','));
  if (view.agent) q.set('agent_id', view.agent);
  if (view.q) q.set('q', view.q);
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

/** Outcome and cause in words that never present a timeout as a person's "no". */
export function outcomeWords(outcome, cause) {
  if (cause === 'timeout') return outcome === 'approved' ? 'approved by timeout' : outcome === 'rejected' ? 'timed out' : `${outcome} by timeout`;
  if (cause === 'agent') return outcome === 'cancelled' ? 'cancelled by agent' : outcome;
  if (cause === 'admin') return `${outcome} by admin`;
  return outcome ?? 'decided';
}

/** The chain in either form the API may give it. */
export function chainOf(detail) {
  const chain = detail.chain;
  if (Array.isArray(chain)) return { entries: chain, length: chain.length, head: chain.at(-1)?.hash ?? null };
  const entries = chain?.entries ?? [];
  return { entries, length: chain?.length ?? entries.length, head: chain?.head ?? entries.at(-1)?.hash ?? null };
}
