// JSON values as a readable tree. The action is drawn whole and unfolded, with its types visible;
// context may fold what is deep, long or many, and draws a folded part only when it is opened.

import { h, isolated } from './dom.js';
import { isBranch } from './json.js';

const MANY = 100; // members drawn at once in a foldable tree
const LONG = 600; // characters of one string drawn at once in a foldable tree
const OPEN_DEPTH = 3; // levels that a foldable tree, or a part of it that is unfolded, shows at once
const INDENT_DEPTH = 6; // deeper levels are no longer indented, so that the text keeps its width

const sizeOf = (v) => (Array.isArray(v) ? v.length : Object.keys(v).length);

function scalar(value, options) {
  if (typeof value === 'string') {
    if (options.fold && value.length > LONG) return longString(value);
    if (value === '') return h('span', { class: 'v-none' }, options.exact ? '""' : 'empty');
    return options.exact
      ? h('span', { class: 'v-string' }, h('span', { class: 'quote' }, '"'), isolated(value, {}, true), h('span', { class: 'quote' }, '"'))
      : isolated(value, { class: 'v-string' });
  }
  if (value === null) return h('span', { class: 'v-none' }, 'null');
  return h('span', { class: typeof value === 'boolean' ? 'v-bool' : 'v-number' }, String(value));
}

function longString(value) {
  const text = isolated(`${value.slice(0, LONG)}…`);
  const more = h('button', { type: 'button', class: 'quiet' }, `Show all ${value.length.toLocaleString('en')} characters`);
  more.addEventListener('click', () => { text.replaceWith(isolated(value)); more.remove(); });
  return h('span', { class: 'v-string' }, text, ' ', more);
}

function branch(value, depth, options) {
  const array = Array.isArray(value);
  if (!sizeOf(value)) return h('span', { class: 'v-none' }, options.exact ? (array ? '[]' : '{}') : array ? 'empty list' : 'empty');
  const keys = array ? value.keys() : Object.keys(value);
  const all = [...keys];
  const list = h('dl', { class: `tree${depth && depth <= INDENT_DEPTH ? ' indent' : ''}${depth > INDENT_DEPTH ? ' deep' : ''}` });
  const add = (part) => {
    for (const key of part) list.append(member(key, value[key], array, depth, options));
  };
  if (!options.fold || all.length <= MANY) { add(all); return list; }
  let shown = 0;
  const more = h('button', { type: 'button', class: 'quiet' });
  const next = () => {
    add(all.slice(shown, shown + MANY));
    shown = Math.min(all.length, shown + MANY);
    if (shown < all.length) more.textContent = `Show more (${(all.length - shown).toLocaleString('en')} left)`;
    else more.remove();
  };
  more.addEventListener('click', next);
  next();
  return h('div', {}, list, more);
}

function member(key, value, array, depth, options) {
  const name = h('dt', { class: array ? 'index' : null },
    array ? `${key + 1}.` : key === '' ? h('span', { class: 'v-none' }, 'empty name') : isolated(key, {}, true));
  const nested = isBranch(value) && sizeOf(value) > 0;
  const body = !isBranch(value) ? scalar(value, options)
    : nested && options.fold && (depth + 1 >= options.openTo || sizeOf(value) > MANY) ? folded(value, depth + 1, options)
      : branch(value, depth + 1, options);
  return h('div', { class: nested ? 'kv nest' : 'kv' }, name, h('dd', {}, body));
}

function folded(value, depth, options) {
  const n = sizeOf(value).toLocaleString('en');
  const what = Array.isArray(value) ? `list of ${n}` : `${n} ${n === '1' ? 'entry' : 'entries'}`;
  const el = h('details', { class: 'fold' }, h('summary', {}, what));
  el.addEventListener('toggle', () => { if (el.open && el.children.length === 1) el.append(branch(value, depth, { ...options, openTo: depth + OPEN_DEPTH })); });
  return el;
}

/** The action's arguments: nothing folded, strings in quotes, hidden characters marked. */
export const exactTree = (value) => (isBranch(value) ? branch(value, 0, { fold: false, exact: true }) : scalar(value, { exact: true }));

/** The context: for reading. */
export const readingTree = (value) => (isBranch(value) ? branch(value, 0, { fold: true, exact: false, openTo: OPEN_DEPTH }) : scalar(value, { fold: true }));
