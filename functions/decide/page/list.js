// The queue: rows kept by request_id, so that live changes neither lose focus nor move what is being read,
// and the notes that stand in for rows while there are none.

import { h, byId, safeText, setAttr, setText } from './dom.js';
import { countdown, countdownWords, now, urgency } from './time.js';
import { filtered, isPending, outcomeWords, viewUrl } from './state.js';

const rows = new Map(); // request_id -> {el, link, item, parts}
const list = byId('list');
const scroller = byId('list-scroll');
const note = byId('list-note');

function createRow(item, open) {
  const parts = {
    priority: h('span', { class: 'priority' }), title: h('span', { class: 'title' }),
    left: h('span', { class: 'left', 'aria-hidden': 'true' }), spoken: h('span', { class: 'sr' }), facts: h('span', { class: 'facts' }),
  };
  const link = h('a', { class: 'row', tabindex: '-1' },
    h('span', { class: 'line' }, parts.title, parts.left, parts.spoken), h('span', { class: 'line facts' }, parts.priority, parts.facts));
  link.addEventListener('click', (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return; // a new tab is a new tab
    event.preventDefault();
    open(item.request_id, event.detail === 0);
  });
  return { el: h('li', {}, link), link, item: null, parts };
}

function fillRow(row, item) {
  const { parts, link } = row;
  const old = row.item;
  row.item = item;
  if (old && old.title === item.title && old.priority === item.priority && old.status === item.status
    && old.outcome === item.outcome && old.cause === item.cause && old.escalated_at === item.escalated_at) return;
  parts.title.replaceChildren(h('bdi', {}, safeText(item.title)));
  setText(parts.priority, item.priority);
  setAttr(link, 'data-priority', item.priority);
  setAttr(link, 'data-state', isPending(item) ? 'pending' : 'done');
  parts.facts.replaceChildren(
    h('span', { class: 'action-type' }, safeText(item.action_type ?? '')), h('span', { class: 'agent' }, safeText(item.agent_id)),
    isPending(item) && item.escalated_at ? h('span', { class: 'escalated' }, 'escalated') : '',
  );
}

function tickRow(row, at) {
  const { item, parts, link } = row;
  if (!isPending(item)) {
    setAttr(link, 'data-urgency', null);
    const words = outcomeWords(item.outcome, item.cause);
    setText(parts.left, words);
    setText(parts.spoken, words);
    setAttr(parts.left, 'data-outcome', item.cause === 'operator' ? item.outcome : 'other'); // colour is for a person's answer
    return;
  }
  const ms = Date.parse(item.respond_by) - at;
  setText(parts.left, countdown(ms));
  setText(parts.spoken, countdownWords(ms));
  setAttr(link, 'data-urgency', urgency(item.created_at, item.respond_by, at));
}

/** Draws `items`; keeps the first row in sight where it is. `fresh` rows are marked for a moment. */
export function drawList(items, view, cursorId, open) {
  const top = scroller.getBoundingClientRect().top;
  const anchor = [...list.children].find((el) => el.getBoundingClientRect().bottom > top);
  const anchorTop = anchor?.getBoundingClientRect().top;
  const held = document.activeElement?.closest?.('#list li');

  const wanted = new Set(items.map((i) => i.request_id));
  const first = rows.size === 0;
  for (const [id, row] of rows) if (!wanted.has(id)) { row.el.remove(); rows.delete(id); }
  const at = now();
  let place = list.firstElementChild;
  for (const item of items) {
    let row = rows.get(item.request_id);
    if (!row) {
      row = createRow(item, open);
      if (!first) row.el.classList.add('fresh');
      rows.set(item.request_id, row);
    }
    fillRow(row, item);
    tickRow(row, at);
    if (row.el === place) place = place.nextElementSibling;
    else list.insertBefore(row.el, place);
  }
  markCurrent(view, cursorId);
  if (scroller.scrollTop > 0 && anchor?.isConnected) scroller.scrollTop += anchor.getBoundingClientRect().top - anchorTop;
  if (held && document.activeElement === document.body) {
    (held.isConnected ? held.firstElementChild : rows.get(cursorId)?.link ?? list.querySelector('a'))?.focus({ preventScroll: true });
  }
}

/** The open row, the row the keys stand on, and each row's own address. */
export function markCurrent(view, cursorId) {
  const stop = rows.has(cursorId) ? cursorId : rows.keys().next().value;
  for (const [id, row] of rows) {
    setAttr(row.link, 'aria-current', id === view.id ? 'true' : null);
    setAttr(row.link, 'tabindex', id === stop ? '0' : '-1');
    row.el.classList.toggle('cursor', id === cursorId);
    setAttr(row.link, 'href', viewUrl({ ...view, id }));
  }
}

export function tickList() {
  const at = now();
  for (const row of rows.values()) tickRow(row, at);
}

export function showRow(id, focus = false) {
  const row = rows.get(id);
  row?.el.scrollIntoView({ block: 'nearest' });
  if (focus) row?.link.focus({ preventScroll: true });
  return Boolean(row);
}

export const listScroll = { get: () => scroller.scrollTop, set: (y) => { scroller.scrollTop = y; } };

/** Below or instead of the rows: loading, empty, error, or "show more". */
export function drawNote({ status, error, count, view, more, total, onMore, onReset, onRetry }) {
  const key = JSON.stringify([status, error?.message, count === 0, filtered(view), view.status, Boolean(more), status === 'ok' && more ? total : 0]);
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
  } else if (more) {
    note.append(button('Show more', onMore));
  }
}
