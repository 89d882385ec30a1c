// Two lists of rules beside each other: what differs, rule by rule, and one's own changes put on top of another's.
// Rules are known by their names. Pure functions.

import { isBranch, write } from './json.js';

const texts = new WeakMap();
/** A rule as JSON; rules are never changed in place, so that each is written once. */
export function textOf(rule) {
  if (!isBranch(rule)) return write(rule);
  if (!texts.has(rule)) texts.set(rule, write(rule));
  return texts.get(rule);
}
export const isSame = (one, other) => one === other || (one !== undefined && other !== undefined && textOf(one) === textOf(other));
export const areSame = (some, others) => some.length === others.length && some.every((rule, n) => isSame(rule, others[n]));

/** Whether two answers are of one document: after a restore another one may have its number. */
export const isSameDocument = (one, other) => one?.version === other?.version && (one?.created_at ?? null) === (other?.created_at ?? null);

const nameOf = (rule) => rule?.name;
const byName = (rules) => new Map(rules.map((rule) => [nameOf(rule), rule]).reverse()); // of two of a name the first
const common = (rules, names) => rules.map(nameOf).filter((name) => names.has(name));

/** -> {added: [rule], removed: [rule], changed: [{name, from, to}], moved: bool}. */
export function ruleChanges(from, to) {
  const [before, after] = [byName(from), byName(to)];
  const stays = new Set([...before.keys()].filter((name) => after.has(name)));
  return {
    added: to.filter((rule) => !before.has(nameOf(rule))),
    removed: from.filter((rule) => !after.has(nameOf(rule))),
    changed: [...after].filter(([name, rule]) => before.has(name) && !isSame(before.get(name), rule))
      .map(([name, rule]) => ({ name, from: before.get(name), to: rule })).reverse(),
    moved: common(from, stays).join('\n') !== common(to, stays).join('\n'),
  };
}

/** "2 changed, 1 added, order changed"; '' where nothing differs. */
export function changeWords({ added, removed, changed, moved }) {
  const counts = [[changed.length, 'changed'], [added.length, 'added'], [removed.length, 'removed']];
  return [...counts.filter(([n]) => n).map(([n, words]) => `${n} ${words}`), moved ? 'order changed' : ''].filter(Boolean).join(', ');
}

/**
 * `mine` was made from `base`; meanwhile `theirs` was saved. -> {rules, both}: theirs with my changes on top, and the names
 * of rules that both changed: there mine stands.
 */
export function putOnTop(base, mine, theirs) {
  const [was, own, now] = [byName(base), byName(mine), byName(theirs)];
  const my = ruleChanges(base, mine);
  const iChanged = new Set([...my.changed.map(({ name }) => name), ...my.added.map(nameOf)]);
  const iRemoved = new Set(my.removed.map(nameOf));
  const both = [];
  const theyChanged = (name) => !isSame(was.get(name), now.get(name));
  for (const name of [...iChanged, ...iRemoved]) {
    if (theyChanged(name) && !isSame(own.get(name), now.get(name))) both.push(name);
  }
  const kept = theirs.filter((rule) => !iRemoved.has(nameOf(rule))).map((rule) => (iChanged.has(nameOf(rule)) ? own.get(nameOf(rule)) : rule));
  const rules = my.moved ? inOrderOf(mine, kept) : kept;
  const there = new Set(rules.map(nameOf));
  // What is mine alone comes after the rule that it followed.
  mine.forEach((rule, n) => {
    if (there.has(nameOf(rule)) || !iChanged.has(nameOf(rule))) return;
    const before = mine.slice(0, n).reverse().find((one) => there.has(nameOf(one)));
    rules.splice(before ? rules.findIndex((one) => nameOf(one) === nameOf(before)) + 1 : 0, 0, rule);
    there.add(nameOf(rule));
  });
  return { rules, both };
}

/** Rules in another list's order; those that it does not have stay behind the rule that they followed. */
function inOrderOf(order, rules) {
  const places = new Map(order.map((rule, n) => [nameOf(rule), n]).reverse());
  let last = -1;
  return rules.map((rule, n) => {
    last = places.get(nameOf(rule)) ?? last;
    return { rule, place: last, n };
  }).sort((one, other) => one.place - other.place || one.n - other.n).map(({ rule }) => rule);
}
