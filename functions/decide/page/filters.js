// The filters above the list: priority and outcome with the counts of what is listed, agent, free text, days. They
// write the address, nothing else. What came with an address and has no field of its own is shown, and can be removed.

import { byId, h, safeText, setAttr, setText } from './dom.js';
import { counted, isFailed, listedByPriority, OUTCOMES, PRIORITIES } from './state.js';
import { dayOf, timeOf } from './time.js';

const text = byId('filter-q');
const agent = byId('filter-agent');
const chips = byId('filter-priority');
const outcomes = byId('filter-outcome');
const days = byId('filter-days');
const others = byId('filter-others');
const OTHERS = [['type', 'type'], ['decidedBy', 'decided by'], ['group', 'group']];
const mine = byId('filter-mine');
const TYPING = 250; // ms of rest before a typed filter is applied
const seen = new Set();

function bindHistory({ go, view }) {
  for (const outcome of [...OUTCOMES, 'failed']) {
    const toggled = () => (outcome === 'failed' ? { failed: !view().failed }
      : { outcome: OUTCOMES.filter((x) => (x === outcome) !== view().outcome.includes(x)) });
    outcomes.append(h('button', { type: 'button', class: 'chip', 'data-outcome': outcome, 'aria-pressed': 'false', onclick: () => go(toggled()) },
      outcome[0].toUpperCase() + outcome.slice(1), ' ', h('span', { class: 'count' })));
  }
  for (const field of days.querySelectorAll('input')) {
    field.addEventListener('change', () => go({ [field.name]: timeOf(field.value, field.name === 'to') }));
  }
  others.addEventListener('click', ({ target }) => {
    const member = target.closest('button')?.dataset.member;
    if (member) go({ [member]: '' });
  });
}

export function bindFilters({ go, view }) {
  bindHistory({ go, view });
  mine.addEventListener('click', () => go({ mine: !view().mine }));
  let timer = 0;
  const apply = () => {
    clearTimeout(timer);
    const patch = { q: text.value.trim(), agent: agent.value.trim() };
    const old = view();
    if (patch.q !== old.q || patch.agent !== old.agent) go(patch, { replace: true });
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(apply, TYPING); };
  text.addEventListener('input', soon);
  agent.addEventListener('input', soon);
  byId('filters').addEventListener('submit', (event) => { event.preventDefault(); apply(); });
  for (const p of PRIORITIES) {
    const count = h('span', { class: 'count' });
    chips.append(h('button', {
      type: 'button', class: 'chip', 'data-priority': p, 'aria-pressed': 'false',
      onclick: () => {
        const on = view().priority;
        go({ priority: PRIORITIES.filter((x) => (x === p ? !on.includes(x) : on.includes(x))) });
      },
    }, p, ' ', count));
  }
}

function drawHistory(view, items, more) {
  outcomes.hidden = view.status === 'pending';
  for (const chip of outcomes.children) {
    const { outcome } = chip.dataset;
    const isOn = outcome === 'failed' ? view.failed : view.outcome.includes(outcome);
    setAttr(chip, 'aria-pressed', String(isOn));
    const isShown = outcome === 'failed' || !view.outcome.length || view.outcome.includes(outcome);
    setText(chip.lastElementChild, isShown ? counted(items, (item) => (outcome === 'failed' ? isFailed(item) : item.outcome === outcome), more) : '');
  }
  days.hidden = view.status !== 'decided';
  for (const field of days.querySelectorAll('input')) {
    const day = dayOf(view[field.name], field.name === 'to');
    if (document.activeElement !== field && field.value !== day) field.value = day;
  }
  const set = OTHERS.filter(([member]) => view[member]);
  const key = JSON.stringify(set.map(([member]) => view[member]));
  others.hidden = !set.length;
  if (others.dataset.key === key) return;
  others.dataset.key = key;
  others.replaceChildren(...set.map(([member, words]) => h('button', { type: 'button', class: 'chip', 'data-member': member, 'aria-label': `Remove the filter ${words} ${view[member]}` },
    words, ' ', h('bdi', {}, safeText(view[member])), ' ×')));
}

export function drawFilters(view, counts, items, more) {
  drawHistory(view, items, more);
  setAttr(mine, 'aria-pressed', String(view.mine));
  const listed = listedByPriority(view, items, more, counts);
  for (const [field, value] of [[text, view.q], [agent, view.agent]]) {
    if (document.activeElement !== field && field.value !== value) field.value = value;
  }
  for (const chip of chips.children) {
    setAttr(chip, 'aria-pressed', String(view.priority.includes(chip.dataset.priority)));
    setText(chip.lastElementChild, listed[chip.dataset.priority]);
  }
  for (const { agent_id: id } of items) {
    if (seen.has(id) || seen.size > 200) continue;
    seen.add(id);
    byId('agents-seen').append(h('option', { value: id }));
  }
}
