// The difference between what was asked and what is approved instead, and the two side by side.

import { h, isolated } from './dom.js';
import { exactTree } from './tree.js';

const MOST = 200;
const WORDS = { changed: 'changed', added: 'added', removed: 'left out' };

const where = (path) => (path.length ? path.map((name, n) => [n ? h('span', { class: 'muted' }, ' › ') : '', typeof name === 'number' ? `${name + 1}.` : isolated(name, {}, true)]) : 'the whole');

const SIDES = { from: 'asked: ', to: 'now: ' };

function change({ path, kind, from, to }, sides) {
  return h('li', { 'data-kind': kind },
    h('p', {}, h('code', {}, where(path)), ' ', h('span', { class: 'muted' }, WORDS[kind])),
    kind === 'added' ? '' : h('del', {}, h('span', { class: 'sr' }, sides.from), exactTree(from)),
    kind === 'removed' ? '' : h('ins', {}, h('span', { class: 'sr' }, sides.to), exactTree(to)));
}

export const countWords = (n) => `${n.toLocaleString('en')} ${n === 1 ? 'change' : 'changes'}`;

/** The differences as a list; `sides`: what the two sides are called where they are read out. */
export function changeList(all, sides = SIDES) {
  return h('ul', { class: 'changes-list' }, all.slice(0, MOST).map((one) => change(one, sides)),
    all.length > MOST ? h('li', {}, `and ${(all.length - MOST).toLocaleString('en')} more: compare the whole actions below`) : '');
}

/** An action as it is drawn wherever one is: its type and every argument. `null`: what the agent sent was erased. */
export function actionBox(action) {
  if (action === null) return h('div', { class: 'action-box' }, h('p', { class: 'erased' }, 'Erased'));
  const args = action?.arguments ?? {};
  const n = Object.keys(args).length;
  return h('div', { class: 'action-box' },
    h('p', { class: 'action-name' }, h('code', {}, isolated(action?.type ?? '', {}, true)), h('span', { class: 'muted' }, n === 1 ? '1 argument' : `${n} arguments`)),
    n ? exactTree(args) : '');
}
