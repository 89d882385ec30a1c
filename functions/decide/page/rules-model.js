// The draft of the rules, beside the version that it is based on. An entry is {key, rule, faults}: its key stays while its
// rule is changed or moved; rules are never changed in place.

import { isBranch, pathOf } from './json.js';
import { areSame, isSame, isSameDocument, putOnTop, ruleChanges } from './rules-merge.js';
import { nameOf } from './rules-words.js';

let last = 0;
const entryOf = (rule) => { last += 1; return { key: `r${last}`, rule, faults: [] }; };
const EMPTY = { version: 0, rules: [], note: null };

export function createModel() {
  const model = { base: null, entries: [], selected: '', faults: [], unreadable: null, removed: null };

  const place = (key) => model.entries.findIndex((entry) => entry.key === key);
  model.entry = (key = model.selected) => model.entries[place(key)] ?? null;
  model.place = (key = model.selected) => place(key);
  model.rules = () => model.entries.map(({ rule }) => rule);
  model.isChanged = () => model.base !== null && !areSame(model.base.rules, model.rules());
  model.changes = () => ruleChanges(model.base?.rules ?? [], model.rules());
  /** The rule as it is in force; undefined where it is not. */
  model.inForce = (rule) => model.base?.rules.find((one) => nameOf(one) === nameOf(rule));
  model.isNews = ({ rule }) => !isSame(model.inForce(rule), rule);

  /** Takes a version from the server; the draft becomes its own. */
  model.load = (document) => {
    const name = nameOf(model.entry()?.rule);
    const keep = new Map(model.entries.map((entry) => [nameOf(entry.rule), entry.key]));
    model.base = document ?? EMPTY;
    model.entries = model.base.rules.map((rule) => ({ ...entryOf(rule), ...(keep.has(nameOf(rule)) && { key: keep.get(nameOf(rule)) }) }));
    model.selected = model.entries.find(({ rule }) => nameOf(rule) === name)?.key ?? '';
    Object.assign(model, { faults: [], unreadable: null, removed: null });
  };

  /** Counts and the like of the version that the draft is based on. */
  model.refresh = (document) => { if (isSameDocument(document, model.base)) model.base = { ...document, rules: model.base.rules }; };

  /** Another list of rules in place of the draft, from its text: rules keep their keys by text, by name, else by place. */
  model.setAll = (rules) => {
    const left = new Set(model.entries);
    const take = (test) => { const found = [...left].find(test); if (found) left.delete(found); return found; };
    const exact = rules.map((rule) => take((entry) => isSame(entry.rule, rule)));
    const named = rules.map((rule, n) => exact[n] ?? take((entry) => isBranch(rule) && nameOf(entry.rule) === nameOf(rule)));
    const sameLength = rules.length === model.entries.length;
    model.entries = rules.map((rule, n) => {
      if (exact[n]) return exact[n];
      const old = named[n] ?? (sameLength && left.has(model.entries[n]) ? take((entry) => entry === model.entries[n]) : null);
      return old ? { key: old.key, rule, faults: [] } : entryOf(rule);
    });
    if (!model.entry()) model.selected = '';
  };

  /** A changed rule; faults of what was changed no longer count (`path`: only those at or around it). */
  model.set = (key, rule, path = []) => {
    model.entries = model.entries.map((entry) => (entry.key === key
      ? { ...entry, rule, faults: path.length ? entry.faults.filter((fault) => !touches(fault.path, path)) : [] } : entry));
  };

  model.add = (rule, at = model.entries.length) => {
    const taken = new Set(model.rules().map(nameOf));
    const name = freeName(nameOf(rule), taken);
    const entry = entryOf({ ...rule, name });
    model.entries = model.entries.toSpliced(at, 0, entry);
    model.selected = entry.key;
  };

  model.remove = (key) => {
    const at = place(key);
    model.removed = { entry: model.entries[at], at };
    model.entries = model.entries.toSpliced(at, 1);
    model.selected = '';
    return (model.entries[at] ?? model.entries[at - 1])?.key ?? '';
  };

  model.restore = () => {
    const { entry, at } = model.removed;
    model.entries = model.entries.toSpliced(Math.min(at, model.entries.length), 0, entry);
    Object.assign(model, { selected: entry.key, removed: null });
  };

  /** `step` places down (or up); whether it moved. */
  model.move = (key, step) => {
    const at = place(key);
    const to = Math.max(0, Math.min(model.entries.length - 1, at + step));
    if (at < 0 || to === at) return false;
    const entry = model.entries[at];
    model.entries = model.entries.toSpliced(at, 1).toSpliced(to, 0, entry);
    return true;
  };

  /** Somebody else's version below one's own changes. -> the names of rules that both changed. */
  model.rebase = (theirs) => {
    const { rules, both } = putOnTop(model.base.rules, model.rules(), theirs.rules);
    model.base = theirs;
    model.setAll(rules);
    return both;
  };

  /** Faults of a refused document, each at its rule; `sent`: the entries as they were sent. */
  model.tell = (errors, sent) => {
    model.faults = [];
    const found = new Map();
    for (const { pointer = '', detail = '' } of errors) {
      const path = pathOf(pointer);
      const key = path[0] === 'rules' && sent[Number(path[1])]?.key;
      if (key) found.set(key, [...found.get(key) ?? [], { path: path.slice(2), detail }]);
      else model.faults.push({ path, detail });
    }
    model.entries = model.entries.map((entry) => ({ ...entry, faults: found.get(entry.key) ?? [] }));
  };
  model.faulty = () => model.entries.filter(({ faults }) => faults.length);
  return model;
}

const touches = (fault, path) => fault.every((name, n) => n >= path.length || name === path[n]);

function freeName(name, taken) {
  if (!taken.has(name)) return name;
  const root = name.replace(/ \d+$/, '').slice(0, 90);
  for (let n = 2; ; n += 1) if (!taken.has(`${root} ${n}`)) return `${root} ${n}`;
}
