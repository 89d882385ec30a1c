// The filters above the list: priority with its counts, agent, free text. They write the address, nothing else.

import { byId, h, setAttr, setText } from './dom.js';
import { PRIORITIES } from './state.js';

const text = byId('filter-q');
const agent = byId('filter-agent');
const chips = byId('filter-priority');
const TYPING = 250; // ms of rest before a typed filter is applied
const seen = new Set();

export function bindFilters({ go, view }) {
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

export function drawFilters(view, counts, items) {
  for (const [field, value] of [[text, view.q], [agent, view.agent]]) {
    if (document.activeElement !== field && field.value !== value) field.value = value;
  }
  for (const chip of chips.children) {
    setAttr(chip, 'aria-pressed', String(view.priority.includes(chip.dataset.priority)));
    setText(chip.lastElementChild, counts ? String(counts[chip.dataset.priority] ?? 0) : '');
  }
  for (const { agent_id: id } of items) {
    if (seen.has(id) || seen.size > 200) continue;
    seen.add(id);
    byId('agents-seen').append(h('option', { value: id }));
  }
}
