// Requests of one group (the parallel calls of one turn of an agent), shown together where one of them is read.

import { h, onPlainClick, safeText, setAttr, setText } from './dom.js';
import * as api from './api.js';
import { actionBox } from './changes.js';
import { digestOf } from './digest.js';
import { decisionWords, fate, isPending, offered, PLAIN, viewUrl } from './state.js';

const MOST = 100; // members shown, and decided, at once

/** `open(id)` goes to a member; `answer(mode, items)` opens the answer to those that are pending. */
export function createGroup({ open, answer }) {
  let group = null; // {of: agent and group, items, total}
  const details = new Map(); // request_id -> its detail with `fits`: whether its digest fits what is drawn
  const cards = new Map(); // request_id -> {el, state, item}
  const heading = h('h3', { id: 'h-group' }, 'Asked together');
  const count = h('p', { class: 'from' });
  let shown = null; // the open request
  const all = ['approve', 'reject'].map((mode) => h('button', { type: 'button', class: 'button small', 'data-mode': mode, onclick: () => answer(mode, members(shown, mode)) }));
  const buttons = h('div', { class: 'bar-row' }, all);
  const list = h('ol', { class: 'group-list' });
  const element = h('section', { class: 'part group', 'aria-labelledby': 'h-group', hidden: true }, heading, count, list, buttons);

  const keyOf = (detail) => (detail?.group ? `${detail.agent_id}/${detail.group}` : '');

  /** Asks who else is in the group of a request. What cannot be had now is had at the next turn. */
  async function load(detail) {
    if (!detail?.group) { group = null; return; }
    try {
      const page = await api.getList({ ...PLAIN, status: 'all', agent: detail.agent_id, group: detail.group }, null, MOST);
      const items = [...page.items].sort((a, b) => (a.request_id < b.request_id ? -1 : 1));
      await Promise.all(items.filter((item) => !details.has(item.request_id)).map(async ({ request_id: id }) => {
        const one = await api.getDetail(id);
        details.set(id, { ...one, fits: Boolean(one.action) && await digestOf(one.action).catch(() => null) === one.action_digest });
      }));
      group = { of: keyOf(detail), items, more: Boolean(page.next_cursor) };
    } catch (error) {
      if (!(error instanceof api.Problem) && !(error instanceof api.Lost)) throw error;
    }
  }

  const isOf = (detail) => Boolean(group) && group.of === keyOf(detail);

  function card({ request_id: id }) {
    const detail = details.get(id);
    const state = h('span', { class: 'group-state' });
    const link = h('a', { href: viewUrl({ ...PLAIN, status: 'all', id }) }, h('bdi', {}, safeText(detail.title)));
    link.addEventListener('click', onPlainClick(() => open(id)));
    const el = h('li', {}, h('p', { class: 'group-head' }, h('span', { class: 'priority', 'data-priority': detail.priority }, detail.priority), link, state),
      actionBox(detail.action), detail.fits || !detail.action ? '' : h('p', { class: 'check', 'data-state': 'mismatch' }, 'its digest does not match what is shown: it is not part of an approval of all'));
    return { el, state };
  }

  /** The pending requests that an answer to all is for, the open one among them. A P1 is approved by itself. */
  function members(of, mode) {
    if (!isOf(of)) return [];
    return group.items.filter(isPending).map(({ request_id: id, priority }) => ({ ...details.get(id), priority }))
      .filter((detail) => offered(detail).includes(mode) && (mode === 'reject' || (detail.fits && detail.priority !== 'P1')));
  }

  function draw(detail) {
    shown = detail;
    const others = isOf(detail) ? group.items.filter(({ request_id: id }) => id !== detail.request_id && details.has(id)) : [];
    element.hidden = !others.length;
    if (!others.length) return;
    const pending = group.items.filter(isPending).length;
    setText(count, `${group.items.length}${group.more ? ' and more' : ''} requests, ${pending} pending · this one and:`);
    const wanted = new Set(others.map(({ request_id: id }) => id));
    for (const [id, { el }] of cards) if (!wanted.has(id)) { el.remove(); cards.delete(id); }
    others.forEach((item, n) => {
      const known = cards.get(item.request_id) ?? card(item);
      cards.set(item.request_id, known);
      if (list.children[n] !== known.el) list.insertBefore(known.el, list.children[n] ?? null);
      const words = isPending(item) ? 'pending' : decisionWords(item);
      setText(known.state, [words, isPending(item) ? '' : fate(item)].filter(Boolean).join(', '));
      setAttr(known.state, 'data-outcome', isPending(item) ? 'pending' : item.outcome);
    });
    for (const button of all) {
      const { length } = members(detail, button.dataset.mode);
      button.hidden = length < 2 || !isPending(detail);
      setText(button, `${button.dataset.mode === 'approve' ? 'Approve' : 'Reject'} all ${length}…`);
    }
  }

  return { element, load, draw };
}
