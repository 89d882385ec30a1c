// The queue as rows. All are equally high, and only those near what is in sight exist: ten thousand scroll like thirty.
// Rows are kept by request_id, so that live changes neither lose focus nor move what is being read.

import { byId, h, markedText, onPlainClick, safeText, setAttr, setText } from './dom.js';
import { countdown, countdownWords, exact, moment, now, urgency, urgencyWord } from './time.js';
import { claimedByOther } from './may.js';
import { NEAR } from './queue.js';
import { atLeast, decider, fate, filtered, isFailed, isPending, outcomeWords, viewUrl } from './state.js';

const AROUND = 12; // rows drawn before and after those in sight
const rows = new Map(); // request_id -> {el, link, item, parts}
const list = byId('list');
const scroller = byId('list-scroll');
const note = byId('list-note');

let shown = { items: [], view: null, cursorId: '', open: () => {}, picks: null, fresh: new Set(), more: false };
let places = new Map(); // request_id -> index in shown.items
let height = 0; // of every row, in px; 0: not measured yet

function createRow(id, isFresh) {
  const parts = {
    title: h('span', { class: 'title' }), when: h('time', { class: 'when' }), priority: h('span', { class: 'priority' }), facts: h('span', { class: 'facts' }),
    left: h('span', { class: 'left', 'aria-hidden': 'true' }), spoken: h('span', { class: 'sr' }),
  };
  const link = h('a', { class: 'row', tabindex: '-1' }, h('span', { class: 'head' }, parts.title, parts.when), h('span', { class: 'line' }, parts.priority, parts.facts, parts.left, parts.spoken));
  link.addEventListener('click', onPlainClick((event) => shown.open(id, event.detail === 0)));
  const pick = h('input', { type: 'checkbox', class: 'pick' });
  pick.addEventListener('change', () => { if (!shown.picks.toggle(rows.get(id).item, pick.checked)) pick.checked = !pick.checked; });
  return { el: h('li', { class: isFresh ? 'fresh' : null }, pick, link), link, pick, item: null, parts };
}

const SHOWN = ['title', 'priority', 'status', 'outcome', 'cause', 'escalated_at', 'decided_at', 'decided_by', 'delivery_state', 'delivery_error', 'execution', 'claimed_by', 'claimed_until', 'assigned_to'];

function fillRow(row, item) {
  const { parts, link, pick } = row;
  const old = row.item;
  row.item = item;
  if (old && SHOWN.every((member) => JSON.stringify(old[member]) === JSON.stringify(item[member]))) return;
  parts.title.replaceChildren(h('bdi', {}, safeText(item.title)));
  setAttr(pick, 'aria-label', `Select ${markedText(item.title)}`);
  setText(parts.priority, item.priority);
  setAttr(link, 'data-priority', item.priority);
  setAttr(link, 'data-state', isPending(item) ? 'pending' : 'done');
  const done = !isPending(item);
  const [person, became] = done ? [decider(item), fate(item)] : ['', ''];
  parts.facts.replaceChildren(
    person ? h('span', { class: 'person' }, 'by ', h('bdi', {}, safeText(person))) : '',
    became ? h('span', { class: 'fate', 'data-failed': isFailed(item) }, safeText(became)) : '',
    // A line of history has room for what was done by whom, not for what its title says already.
    done ? '' : h('span', { class: 'action-type' }, safeText(item.action_type)),
    person ? '' : h('span', { class: 'agent' }, safeText(item.agent_id)),
    !done && item.escalated_at ? h('span', { class: 'escalated' }, 'escalated') : '',
    h('span', { class: 'claimed' }),
  );
  setAttr(parts.when, 'datetime', done ? item.decided_at : null);
  setAttr(parts.when, 'title', done && item.decided_at ? exact(item.decided_at) : null);
}

function tickRow(row, at) {
  const { item, parts, link } = row;
  if (!isPending(item)) {
    setAttr(link, 'data-urgency', null);
    const failed = isFailed(item) && item.outcome === 'approved';
    const words = `${outcomeWords(item.outcome, item.cause)}${failed ? ', failed' : ''}`;
    setText(parts.left, words);
    setText(parts.spoken, words);
    // Colour is for a person's answer, and green only while nothing is known to have gone wrong with it.
    setAttr(parts.left, 'data-outcome', failed ? 'failed' : item.cause === 'operator' ? item.outcome : 'other');
    setText(parts.when, item.decided_at ? moment(item.decided_at, at) : '');
    return;
  }
  const other = claimedByOther(item, shown.me, at);
  const claimed = parts.facts.querySelector('.claimed');
  if (claimed) setText(claimed, other ? `${markedText(other.name)} is at it` : '');
  const ms = Date.parse(item.respond_by) - at;
  const level = urgency(item, at);
  const word = urgencyWord(level);
  setText(parts.left, [countdown(ms), word].filter(Boolean).join(' '));
  setText(parts.spoken, [countdownWords(ms), word].filter(Boolean).join(', '));
  setText(parts.when, '');
  setAttr(link, 'data-urgency', level);
}

/** The rows in sight, as indices into the items. */
export function rowsInSight() {
  if (!height) return { from: 0, to: 30 };
  return { from: Math.floor(scroller.scrollTop / height), to: Math.floor((scroller.scrollTop + scroller.clientHeight) / height) };
}

/** Draws the items; what is being read stays where it is. */
export function drawList(items, { view, cursorId, open, picks, me, fresh, more }) {
  const anchor = scroller.scrollTop > 0 ? shown.items[rowsInSight().from] : null;
  const before = anchor ? places.get(anchor.request_id) : 0;
  if (items !== shown.items) places = new Map(items.map((item, index) => [item.request_id, index]));
  shown = { items, view, cursorId, open, picks, me, fresh, more };
  setAttr(list, 'data-picks', picks ? '1' : null);
  stretch();
  const now_ = anchor && places.get(anchor.request_id);
  if (anchor && now_ !== undefined && now_ !== before) scroller.scrollTop += (now_ - before) * height;
  drawRows();
}

function stretch() {
  list.style.height = `${shown.items.length * height}px`;
}

/** Which items have a row: those around what is in sight, the one the keys stand on, and the one that has focus. */
function indices(held) {
  const { from, to } = rowsInSight();
  const wanted = new Set([places.get(shown.cursorId), places.get(held)]);
  for (let index = Math.max(0, from - AROUND); index <= to + AROUND; index += 1) wanted.add(index);
  return [...wanted].filter((index) => index < shown.items.length).sort((a, b) => a - b);
}

function drawRows() {
  const { items, view, cursorId, picks, fresh, more } = shown;
  const heldRow = [...rows].find(([, row]) => row.el.contains(document.activeElement));
  const wanted = indices(heldRow?.[0]);
  const ids = new Set(wanted.map((index) => items[index].request_id));
  for (const [id, row] of rows) if (!ids.has(id)) { row.el.remove(); rows.delete(id); }
  const at = now();
  const stop = ids.has(cursorId) ? cursorId : items[wanted[0]]?.request_id;
  let place = list.firstElementChild;
  for (const index of wanted) {
    const item = items[index];
    const id = item.request_id;
    let row = rows.get(id);
    if (!row) { row = createRow(id, fresh.has(id)); rows.set(id, row); }
    fillRow(row, item);
    tickRow(row, at);
    if (row.el === place) place = place.nextElementSibling;
    else list.insertBefore(row.el, place);
    if (!height) { height = row.el.offsetHeight; stretch(); }
    row.el.style.top = `${index * height}px`;
    setAttr(row.el, 'aria-posinset', index + 1);
    setAttr(row.el, 'aria-setsize', more ? -1 : items.length);
    setAttr(row.link, 'aria-current', id === view.id ? 'true' : null);
    setAttr(row.link, 'tabindex', id === stop ? '0' : '-1');
    row.pick.hidden = !picks || !isPending(item);
    row.pick.checked = Boolean(picks?.has(id));
    setAttr(row.el, 'data-picked', row.pick.checked ? '1' : null);
    setAttr(row.pick, 'tabindex', id === stop ? '0' : '-1');
    setAttr(row.link, 'href', viewUrl({ ...view, id }));
  }
  if (heldRow && document.activeElement === document.body) (rows.get(cursorId) ?? rows.get(stop))?.link.focus({ preventScroll: true });
}

/** Calls `fetch` when scrolling nears the end of what is known, and when it has come to rest on something else. */
export function onListScroll(fetch) {
  let drawing = 0;
  let resting = 0;
  let fetching = false;
  const draw = async () => {
    drawing = 0;
    drawRows();
    if (fetching || !shown.more || rowsInSight().to + NEAR < shown.items.length) return;
    fetching = true;
    try { await fetch(); } finally { fetching = false; }
  };
  scroller.addEventListener('scroll', () => {
    drawing ||= requestAnimationFrame(draw);
    clearTimeout(resting);
    resting = setTimeout(fetch, 120);
  }, { passive: true });
  new ResizeObserver(() => {
    const row = list.firstElementChild;
    if (row?.offsetHeight) { height = row.offsetHeight; stretch(); }
    drawRows();
  }).observe(scroller);
}

export function tickList() {
  const at = now();
  for (const row of rows.values()) tickRow(row, at);
}

/** Brings a request's row into sight, and gives it the focus if asked to; false where it is not listed. */
export function showRow(id, focus = false) {
  const index = places.get(id);
  if (index === undefined) return false;
  const [top, bottom] = [index * height, (index + 1) * height];
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (bottom > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom - scroller.clientHeight;
  shown.cursorId = id;
  drawRows();
  if (focus) rows.get(id)?.link.focus({ preventScroll: true });
  return true;
}

export const listScroll = { get: () => scroller.scrollTop, set: (y) => { scroller.scrollTop = y; } };

/** Below or instead of the rows: loading, empty, error, or how much more there is. */
export function drawNote({ status, error, view, counts, onReset, onRetry }) {
  const count = shown.items.length;
  const total = !filtered(view) && view.status === 'pending' ? counts?.pending : null;
  const words = shown.more && count ? (total ? `${count.toLocaleString('en')} of ${atLeast(total, counts)}; more as you scroll` : 'More as you scroll') : '';
  const key = JSON.stringify([status, error?.message, count === 0, filtered(view), view.status, words]);
  if (note.dataset.key === key) return;
  note.dataset.key = key;
  note.replaceChildren();
  const button = (label, fn) => h('button', { type: 'button', class: 'button', onclick: fn }, label);
  const say = (title, text, ...rest) => note.append(h('p', { class: 'note-title' }, title), text ? h('p', {}, text) : '', ...rest);
  if (status === 'loading') {
    if (!count) note.append(h('div', { class: 'skeleton', role: 'status', 'aria-label': 'Loading requests' }, ...Array.from({ length: 6 }, () => h('div'))));
  } else if (status === 'error') {
    say('The list could not be loaded', error.message, button('Try again', onRetry), filtered(view) ? button('Clear filters', onReset) : '');
  } else if (!count && filtered(view)) {
    say('Nothing matches', 'No request fits these filters.', button('Clear filters', onReset));
  } else if (!count) {
    say(view.status === 'decided' ? 'Nothing decided yet' : 'Nothing is waiting',
      view.status === 'decided' ? 'Decisions appear here as they are made.' : 'New requests appear here by themselves.');
  } else if (words) {
    note.append(h('p', {}, words));
  }
}
