// Beside the form: the text, the trial and the history, one at a time, as tabs.

import { h, setAttr } from './dom.js';

/** `shown(name)` is called where one comes to the front. */
export function createRulePanels({ text, trial, history, shown }) {
  const all = [['text', 'Text', text.element], ['try', 'Try', trial.element], ['history', 'History', history.element]].map(([name, words, element]) => {
    const tab = h('button', { type: 'button', role: 'tab', id: `rule-tab-${name}`, 'aria-controls': `rule-panel-${name}`, onclick: () => show(name) }, words);
    const panel = h('div', { role: 'tabpanel', id: `rule-panel-${name}`, class: 'rule-panel', 'aria-labelledby': tab.id, tabindex: '-1' }, element);
    return { name, tab, panel };
  });
  const list = h('div', { class: 'rule-tabs', role: 'tablist', 'aria-label': 'Beside the form' }, all.map(({ tab }) => tab));
  const element = h('div', { class: 'rule-right' }, list, all.map(({ panel }) => panel));
  let front = 'text';

  function show(name) {
    front = name;
    for (const one of all) {
      setAttr(one.tab, 'aria-selected', String(one.name === name));
      setAttr(one.tab, 'tabindex', one.name === name ? '0' : '-1');
      one.panel.hidden = one.name !== name;
    }
    shown(name);
  }

  list.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = all[(all.findIndex(({ name }) => name === front) + step + all.length) % all.length];
    show(next.name);
    next.tab.focus();
  });
  requestAnimationFrame(() => show(front));

  return {
    element, show,
    draw(model) {
      text.draw(model);
      shown(front);
    },
  };
}
