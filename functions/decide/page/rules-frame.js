// What stands around the list and the form: heads, the version in force, what can be done with a rule, and hints.

import { h, safeText } from './dom.js';
import { versionNodes } from './rules-history.js';
import { nameOf, ruleWords } from './rules-words.js';

/** `act`: {add, duplicate, remove, move(step), restore, retry, openPane, leavePane, find}. */
export function createFrame(act, { list, form, panels, bar }) {
  const button = (words, onclick, more = {}) => h('button', { type: 'button', class: 'button small', onclick, ...more }, words);
  const find = h('input', { id: 'rules-q', type: 'search', placeholder: 'Find a rule', 'aria-label': 'Find a rule', autocomplete: 'off', spellcheck: 'false', oninput: () => act.find() });
  const version = h('p', { class: 'rules-version' });
  const undo = h('p', { class: 'rules-undo', role: 'status' });
  const problem = h('div', { class: 'rules-problem', role: 'alert' });
  const up = button('↑', () => act.move(-1), { 'aria-label': 'Move the rule up', title: 'Move up (Alt ↑ in the list)' });
  const down = button('↓', () => act.move(1), { 'aria-label': 'Move the rule down', title: 'Move down (Alt ↓ in the list)' });
  const title = h('h2', { class: 'rule-title', tabindex: '-1', id: 'rule-title' });
  const words = h('p', { class: 'rule-sentence' });
  const back = h('a', { class: 'back', href: '#rules', onclick: (event) => { event.preventDefault(); act.leavePane(); } }, '← Rules');
  const tools = h('div', { class: 'bar-row rule-tools' }, up, down, button('Duplicate', act.duplicate), button('Delete', act.remove, { class: 'button small reject' }));
  const hint = h('div', { class: 'placeholder' });
  const addButton = button('Add a rule', act.add, { id: 'rules-add' });
  const listPane = h('section', { class: 'rules-list-pane', 'aria-label': 'Rules' },
    h('div', { class: 'rules-head' }, h('h2', {}, 'Rules'), addButton, button('Text, try, history', act.openPane, { class: 'button small only-narrow' }), find, version, undo), problem, list.element);
  const pane = h('section', { class: 'rule-pane', 'aria-label': 'Rule', tabindex: '-1' },
    h('div', { class: 'rule-top' }, back, title, words, tools), h('div', { class: 'rule-split' }, h('div', { class: 'rule-left' }, hint, form.element), panels.element));
  let [drawnVersion, drawnUndo, drawnFailure] = ['', '', ''];

  function drawUndo(gone) {
    if (drawnUndo === (gone?.key ?? '')) return;
    drawnUndo = gone?.key ?? '';
    undo.replaceChildren(...(gone ? [h('span', {}, h('bdi', {}, safeText(nameOf(gone.rule))), ' is deleted from the draft. '), button('Undo', act.restore)] : []));
  }

  return {
    listPane, pane, title, nodes: [h('div', { class: 'rules-panes' }, listPane, pane), bar.element],
    get query() { return find.value.trim().toLowerCase(); },
    clearQuery() { find.value = ''; },
    focusFind: () => find.select(),
    focusList: () => addButton.focus(),
    focusUndo: () => undo.querySelector('button')?.focus(),
    /** `state`: loading, ok or error, then with `failure` in words. */
    draw({ model, state, failure }) {
      const told = state === 'error' ? failure : '';
      if (told !== drawnFailure) problem.replaceChildren(...(told ? [h('p', {}, told), button('Try again', act.retry)] : []));
      drawnFailure = told;
      const key = state === 'ok' ? `${model.base.version}` : state;
      if (key !== drawnVersion) version.replaceChildren(...(state === 'ok' ? [versionNodes(model.base), model.base.version ? ' · What each rule did is counted from then on.' : ''] : [state === 'loading' ? 'Loading …' : '']).flat(3));
      drawnVersion = key;
      drawUndo(model.removed?.entry);
      const entry = model.entry();
      for (const part of [title, words, tools, form.element]) part.hidden = !entry;
      hint.hidden = Boolean(entry) || state !== 'ok';
      hint.replaceChildren(h('p', { class: 'note-title' }, model.entries.length ? 'No rule is open' : 'No rules yet'),
        h('p', {}, model.entries.length ? 'Choose one from the list, or add one.' : 'Add one, or open a decided request and choose “Always like this …”.'));
      if (!entry) return;
      title.replaceChildren(h('span', { class: 'muted' }, `${model.place() + 1}. `), h('bdi', {}, safeText(nameOf(entry.rule), true)));
      words.replaceChildren(...safeText(ruleWords(entry.rule), true));
      [up.disabled, down.disabled] = [model.place() === 0, model.place() === model.entries.length - 1];
      form.show(entry, !model.unreadable);
    },
  };
}
