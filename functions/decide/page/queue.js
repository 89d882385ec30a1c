// The part of the queue that is known here. The server gives it in pages that follow one another by cursors, and each
// answer is the truth for its own stretch of the order. So only the top and what is in sight are asked for again:
// ten thousand requests cost as much as thirty.

const LAST = '\uffff'; // after every key
/** So many rows before the end of what is known, the next page is fetched. */
export const NEAR = 60;

const byDeadline = (item) => `${item.priority} ${item.respond_by} ${item.request_id}`;

/** Newest decision first: the digits of time and id, each taken from nine or fifteen. */
function byDecision({ decided_at: at, request_id: id }) {
  const time = String(at ?? '').replace(/\d/g, (digit) => 9 - digit);
  return `${time} ${id.replace(/[0-9a-f]/g, (digit) => (15 - parseInt(digit, 16)).toString(16))}`;
}

/** An item's place in the server's order, as a text to compare: priority, respond_by, id; decided ones the newest first. */
export const orderOf = (view) => (view.status === 'decided' ? byDecision : byDeadline);

/** `ask(cursor)` fetches the page that a cursor names, the first for null; `keyOf` is the order of its items. */
export function createQueue(ask, keyOf) {
  let items = [];
  let starts = [{ cursor: null, after: '', end: null, page: null }]; // where pages begin; `end` null: not fetched yet

  /** Which pages show the rows `from` to `to`: the first one always, because what is urgent comes there. */
  function pagesFor({ from, to }) {
    const [low, high] = items.length ? [items[Math.min(from, items.length - 1)], items[Math.min(to, items.length - 1)]].map(keyOf) : ['', ''];
    return starts.filter((start, n) => n === 0
      || (start.after < high && (starts[n + 1]?.after ?? LAST) >= low)
      || (n === starts.length - 1 && start.end === null && to + NEAR >= items.length));
  }

  /** Puts an answer in its place; what is new in a stretch that was known before. */
  function take(start, page) {
    if (start.page === page) return [];
    const end = page.next_cursor ? keyOf(page.items.at(-1)) : LAST;
    const before = new Set(items.map((item) => item.request_id));
    const fresh = page.items.filter((item) => start.end !== null && keyOf(item) <= start.end && !before.has(item.request_id));
    const here = new Set(page.items.map((item) => item.request_id));
    const elsewhere = items.filter((item) => !here.has(item.request_id)); // it may have moved
    items = [...elsewhere.filter((item) => keyOf(item) <= start.after), ...page.items, ...elsewhere.filter((item) => keyOf(item) > end)];
    const next = page.next_cursor && { ...(starts.find((other) => other.after === end) ?? { after: end, end: null, page: null }), cursor: page.next_cursor };
    starts = [...starts.filter((other) => other.after < start.after), { ...start, end, page }, ...(next ? [next] : []), ...starts.filter((other) => other.after > end)];
    return fresh;
  }

  return {
    get items() { return items; },
    get more() { return starts.at(-1).end === null; },
    /** Asks again for what the rows `from` to `to` show; resolves to the counts and what is new. */
    async refresh(rows) {
      const wanted = pagesFor(rows);
      const pages = await Promise.all(wanted.map((start) => ask(start.cursor)));
      const fresh = pages.flatMap((page, n) => {
        const start = starts.find((known) => known.after === wanted[n].after);
        return start ? take(start, page) : [];
      });
      return { counts: pages[0].counts, fresh };
    },
  };
}
