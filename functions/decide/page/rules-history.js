// What differs between two lists of rules, and the versions of the document: who saved which when and why, and what differs
// from the draft.

import { h, isolated, safeText, setAttr, setText } from './dom.js';
import * as api from './api.js';
import { changeList } from './changes.js';
import { differences } from './diff.js';
import { refusalWords } from './problems.js';
import { changeWords, ruleChanges } from './rules-merge.js';
import { nameOf, ruleWords } from './rules-words.js';
import { timeNode } from './time.js';

const MOST = 100; // rules of a difference that are shown
const PAGE = 10; // versions asked for at once
const SIDES = { from: 'before: ', to: 'after: ' };

/** The difference as nodes. */
export function differenceNodes(from, to) {
  const changes = ruleChanges(from, to);
  if (!changeWords(changes)) return h('p', { class: 'muted' }, 'No difference.');
  const { added, removed, changed, moved } = changes;
  const titled = (kind, name, ...what) => h('li', { 'data-kind': kind }, h('p', {}, h('code', {}, safeText(String(name), true)), ' ', h('span', { class: 'muted' }, kind)), ...what);
  const all = [
    ...changed.map((one) => () => titled('changed', one.name ?? 'unnamed', changeList(differences(one.from, one.to), SIDES))),
    ...added.map((rule) => () => titled('added', nameOf(rule), h('ins', {}, safeText(ruleWords(rule), true)))),
    ...removed.map((rule) => () => titled('removed', nameOf(rule), h('del', {}, safeText(ruleWords(rule), true)))),
  ];
  return h('div', { class: 'rule-difference' }, h('p', {}, changeWords(changes)),
    h('ul', { class: 'changes-list' }, all.slice(0, MOST).map((draw) => draw()), all.length > MOST ? h('li', {}, `and ${all.length - MOST} more`) : ''),
    moved ? h('p', { class: 'muted' }, 'The order differs: the first rule that holds applies.') : '');
}

const by = ({ created_by: who }) => (who ? isolated(String(who.name || who.id)) : 'somebody');

/** Who saved a version, when and why. */
export const versionNodes = (document) => (document.version
  ? ['Version ', String(document.version), ' by ', by(document), ' ', timeNode(document.created_at), document.note ? [': ', h('q', { class: 'reason', dir: 'auto' }, safeText(document.note))] : '']
  : ['No rules have been saved yet.']);

/** `draft()` gives the rules as they are now; `restore(document)` puts a version into the draft. */
export function createHistory({ draft, restore }) {
  const list = h('ol', { class: 'rule-versions' });
  const error = h('p', { class: 'composer-error', role: 'alert' });
  const more = h('button', { type: 'button', class: 'button small', hidden: true, onclick: () => load() }, 'Show earlier versions');
  const element = h('div', { class: 'rule-history' }, list, error, more);
  let [newest, next, turn] = [null, 0, 0];

  function item(document) {
    const place = h('div', { class: 'difference' });
    const toggle = h('button', { type: 'button', class: 'button small', 'aria-expanded': 'false', onclick: () => {
      const isOpen = toggle.getAttribute('aria-expanded') === 'true';
      setAttr(toggle, 'aria-expanded', String(!isOpen));
      place.replaceChildren(isOpen ? '' : differenceNodes(document.rules, draft()));
    } }, 'Difference to the draft');
    return h('li', { 'data-version': document.version },
      h('p', {}, versionNodes(document), document.version === newest ? h('span', { class: 'muted' }, ' · in force') : ''),
      h('div', { class: 'bar-row' }, toggle, h('button', { type: 'button', class: 'quiet', onclick: () => restore(document) }, `Put version ${document.version} into the draft`)), place);
  }

  async function load() {
    const wanted = Array.from({ length: Math.min(PAGE, next) }, (_, n) => next - n);
    const mine = turn;
    setText(error, '');
    more.disabled = true;
    try {
      const found = await Promise.all(wanted.map((version) => api.getRules(version)));
      if (mine !== turn || wanted[0] !== next) return;
      list.append(...found.map(item));
      next -= wanted.length;
    } catch (failure) { if (mine !== turn) return; setText(error, refusalWords(failure).replace('Nothing was recorded: ', '')); }
    more.disabled = false;
    more.hidden = next < 1;
    if (next >= 1 && error.textContent) setText(more, 'Try again');
    else setText(more, 'Show earlier versions');
  }

  return {
    element,
    /** Shows the versions up to this one. */
    show(version) {
      if (version === newest) return;
      [newest, next] = [version, version];
      turn += 1;
      list.replaceChildren(...(version ? [] : [h('li', { class: 'muted' }, 'No rules have been saved yet.')]));
      more.hidden = true;
      if (version) load();
    },
    forget() { newest = null; turn += 1; list.replaceChildren(); },
  };
}
