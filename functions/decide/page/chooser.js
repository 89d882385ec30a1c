// A field that collects operators or groups: suggestions while it is typed in, and what was chosen as a list below.

import { h, safeText, setText } from './dom.js';
import * as api from './api.js';

/** Operators by id, name, e-mail address or group. */
export async function suggestOperators(text) {
  const found = await api.getOperators(text);
  return found.filter(({ status }) => status !== 'blocked').map(({ id, name, email, groups }) => ({
    value: id, name: name || id, words: [name, email, (groups ?? []).join(', ')].filter(Boolean).join(' · '),
  }));
}

/** Those of `known()` that hold the text. */
export const suggestAmong = (known) => async (text) => known().filter((name) => name.includes(text)).map((name) => ({ value: name, name, words: '' }));

/**
 * `most` can be chosen; `suggest(text)` resolves to [{value, name, words}]. What is typed counts where it is the value or the
 * name of one of them, or the only one; with `isFree`, as it is.
 */
export function createChooser({ id, label, help, most, suggest, isFree = false }) {
  let offered = [];
  let chosen = []; // [{value, name}]
  const options = h('datalist', { id: `${id}-options` });
  const input = h('input', { id, type: 'text', autocomplete: 'off', spellcheck: 'false', list: `${id}-options`, 'aria-describedby': `${id}-help ${id}-fault`, maxlength: '200' });
  const add = h('button', { type: 'button', class: 'button small', onclick: () => take() }, 'Add');
  const fault = h('p', { class: 'field-fault', id: `${id}-fault`, role: 'alert' });
  const list = h('ul', { class: 'chosen', 'aria-label': `${label}: chosen` });
  const element = h('div', { class: 'field chooser' }, h('label', { for: id }, label), h('div', { class: 'item' }, input, add), options,
    h('p', { class: 'field-help', id: `${id}-help` }, help), fault, list);

  let turn = 0;
  async function look() {
    turn += 1;
    const [mine, text] = [turn, input.value.trim()];
    if (!text) return;
    let found = [];
    try { found = await suggest(text); } catch { /* the typed text may do */ }
    if (mine !== turn) return;
    offered = found;
    options.replaceChildren(...found.map(({ value, words }) => h('option', { value }, words)));
    setText(fault, '');
  }

  function meant(text) {
    const same = (one) => one.value === text || one.name.toLowerCase() === text.toLowerCase();
    return offered.find(same) ?? (isFree ? { value: text, name: text } : offered.length === 1 ? offered[0] : null);
  }

  /** Takes what is typed; whether nothing wrong is left in the field. */
  async function take() {
    const text = input.value.trim();
    if (!text) return true;
    await look();
    const one = meant(text);
    setText(fault, one ? '' : offered.length ? `More than one fits “${text}”: choose one.` : `Nobody is found by “${text}”.`);
    if (!one) { input.focus(); return false; }
    if (!chosen.some(({ value }) => value === one.value)) chosen = [...chosen, one].slice(-most);
    input.value = '';
    draw();
    input.focus();
    return true;
  }

  function draw() {
    list.replaceChildren(...chosen.map((one) => h('li', {}, h('bdi', {}, safeText(one.name)),
      h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove ${one.name}`, onclick: () => { chosen = chosen.filter((other) => other !== one); draw(); input.focus(); } }, '×'))));
  }

  input.addEventListener('input', look);
  input.addEventListener('keydown', (event) => { if (event.key === 'Enter' && input.value.trim() && !event.ctrlKey && !event.metaKey) { event.preventDefault(); take(); } });

  return {
    element, take,
    focus: () => input.focus(),
    values: () => chosen.map(({ value }) => value),
    set(all) { chosen = all; draw(); },
    fault(words) { setText(fault, words); input.focus(); },
  };
}
