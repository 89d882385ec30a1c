// The report as nodes: the sum, a line for each priority, agent, group or operator, and what runs out of time now.

import { copyButton, h, isolated, onPlainClick, safeText } from './dom.js';
import { nameOf } from './names.js';
import { csvOf, GROUPINGS, KEYLESS, lasted, shareOf, shareWords, sumOf } from './report-view.js';
import { noFilters, viewUrl } from './state.js';
import { timeNode, urgency } from './time.js';

const count = (number) => number.toLocaleString('en');

/** How much was answered in time, as a bar beside its number. */
function shareNodes(line) {
  const share = shareOf(line);
  if (share === null) return [h('span', { class: 'muted' }, '–')];
  const bar = h('span', { class: 'share', 'aria-hidden': 'true' });
  bar.style.setProperty('--share', `${share * 100}%`);
  return [h('span', { class: 'share-words' }, shareWords(share)), bar];
}

/** The sum in words: a sentence, read out when it changes. */
export function sumWords(all) {
  const sum = sumOf(all);
  if (!sum.asked) return 'Nothing was asked in this period.';
  const parts = [`${count(sum.asked)} asked`, `${count(sum.decided_in_time)} decided in time`, `${count(sum.timed_out)} timed out`];
  if (sum.cancelled) parts.push(`${count(sum.cancelled)} taken back`);
  if (sum.pending) parts.push(`${count(sum.pending)} pending`);
  return `${parts.join(', ')}.`;
}

/** The share of the whole, large. */
export function sumShare(all) {
  const share = shareOf(sumOf(all));
  return share === null ? '' : `${shareWords(share)} in time`;
}

const NAMED = 30; // operators whose names are asked for: those of the most requests

/** Names for the first lines, as far as they are known by now; the key where there is none. */
export const named = (by, items) => items.map(({ key }, n) => (by === 'operator' && key !== null && n < NAMED ? nameOf(key) : key));

function keyNodes(by, key, name) {
  if (key === null || key === undefined) return [h('span', { class: 'muted' }, KEYLESS[by] ?? 'None')];
  if (by === 'priority') return [h('span', { class: 'priority', 'data-priority': key }, key)];
  return name === key ? [isolated(key, {}, true)] : [isolated(name), ' ', h('span', { class: 'muted' }, isolated(key, {}, true))];
}

/** The pending of a line, as a way to them where the queue can be asked for them. */
function pendingNodes(by, line, show) {
  const filter = { priority: (key) => ({ priority: [key] }), agent: (key) => ({ agent: key }) }[by];
  if (!line.pending || !filter || !show) return [count(line.pending)];
  const patch = { ...noFilters, status: 'pending', id: '', ...filter(line.key) };
  return [h('a', {
    href: viewUrl(patch), 'data-focus': `pending ${line.key}`, 'aria-label': `${count(line.pending)} pending: open them`,
    onclick: onPlainClick(() => show(patch)),
  }, count(line.pending))];
}

/** The lines as a table. On a phone each line is a card: the roles say that it is still a table. `show`: null, or goes to a view of the queue. */
export function tableOf(by, items, names, show) {
  const [, label] = GROUPINGS.find(([one]) => one === by);
  const columns = [
    ['In time', shareNodes, 'wide'], ['Asked', (line) => [count(line.asked)]], ['Decided in time', (line) => [count(line.decided_in_time)]],
    ['Timed out', (line) => [count(line.timed_out)], 'late'], ['Taken back', (line) => [count(line.cancelled)]], ['Pending', (line) => pendingNodes(by, line, show)],
    ['Half within', (line) => [lasted(line.p50_seconds)]], ['Nine in ten within', (line) => [lasted(line.p90_seconds)]],
  ];
  return h('table', { class: 'report-table', role: 'table', 'aria-label': `By ${label.toLowerCase()}` },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, h('th', { role: 'columnheader', scope: 'col' }, label), columns.map(([name]) => h('th', { role: 'columnheader', scope: 'col' }, name)))),
    h('tbody', { role: 'rowgroup' }, items.map((line, n) => h('tr', { role: 'row' },
      h('th', { role: 'rowheader', scope: 'row' }, keyNodes(by, line.key, names[n])),
      columns.map(([name, nodes, kind]) => h('td', { role: 'cell', 'data-label': name, 'data-kind': kind, 'data-some': kind === 'late' && line.timed_out > 0 }, nodes(line)))))));
}

/** Takes the lines along. */
export const copyCsv = (by, items) => copyButton('Copy as CSV', () => csvOf(by, items), { id: 'report-csv', 'data-focus': 'csv' });

/** What runs out of time now, of the first pending ones: nodes, none where nothing does. `open(id)` goes to a request. */
export function endingNodes(waiting, open) {
  const ending = waiting.filter((item) => ['urgent', 'over'].includes(urgency(item))).toSorted((one, other) => Date.parse(one.respond_by) - Date.parse(other.respond_by));
  if (!ending.length) return [];
  return [h('h3', {}, `Running out of time now: ${ending.length}`),
    h('ul', { class: 'ending' }, ending.slice(0, 10).map((item) => h('li', {},
      h('span', { class: 'priority', 'data-priority': item.priority }, item.priority), ' ',
      h('a', { href: viewUrl({ ...noFilters, status: 'all', id: item.request_id }), 'data-focus': item.request_id, onclick: onPlainClick(() => open(item.request_id)) }, h('bdi', {}, safeText(item.title))), ' ', h('span', { class: 'muted' }, isolated(item.agent_id), ', answer due ', timeNode(item.respond_by)))),
    ending.length > 10 ? h('li', { class: 'muted' }, `and ${ending.length - 10} more`) : '')];
}
