// The trial of a draft over what was asked before: call after call, summed up. The time is tried in slices, the newest first,
// so that one can see how far it has got; each slice goes on by its cursor.

import * as api from './api.js';

const SLICES = 12;
const PAGE = 1000;
const MOST_EXAMPLES = 100;

/** What a person would look at first. */
export const isDangerous = ({ was, would }) => was === 'rejected' && would === 'approved';
const isReverse = ({ was, would }) => was === 'approved' && would === 'rejected';
const rank = (example) => (isDangerous(example) ? 0 : isReverse(example) ? 1 : 2);

const nothing = () => ({ tried: 0, counts: { approved: 0, rejected: 0, asked: 0, failed: 0, skipped: 0 }, same: 0, differs: 0, examples: [], dangerous: 0, isMore: false, part: 0, isWhole: false });

/**
 * Runs `rules` over `from` to `to` (ms). `step(sum)` is given the sum so far after each call; `signal` ends it. Examples stay
 * in the server's order, those of a person's "no" before all others.
 */
export async function tryOut(rules, { from, to, signal, step }) {
  const sum = nothing();
  const slices = Math.max(1, Math.min(SLICES, Math.floor(to - from))); // none is empty
  for (let slice = 0; slice < slices; slice += 1) {
    const edge = (n) => new Date(Math.round(to - ((to - from) * n) / slices)).toISOString();
    const [end, begin] = [edge(slice), edge(slice + 1)];
    let cursor = null;
    do {
      const page = await api.tryRules({ rules, from: begin, to: end, limit: PAGE, ...(cursor && { cursor }) }, signal);
      if (signal.aborted) return sum;
      add(sum, page);
      cursor = page.next_cursor ?? null;
      if (!cursor) sum.part = (slice + 1) / slices;
      sum.isWhole = sum.part === 1;
      step(sum);
    } while (cursor);
  }
  return sum;
}

function add(sum, page) {
  sum.tried += page.tried;
  for (const [name, n] of Object.entries(page.counts)) sum.counts[name] = (sum.counts[name] ?? 0) + n;
  sum.same += page.same ?? 0;
  sum.differs += page.differs ?? 0;
  const dangerous = page.examples.filter(isDangerous).length;
  sum.dangerous += dangerous;
  sum.isMore ||= dangerous >= MOST_EXAMPLES;
  // A stable sort: what came first stays first within its kind.
  sum.examples = [...sum.examples, ...page.examples].sort((one, other) => rank(one) - rank(other)).slice(0, MOST_EXAMPLES);
}
