// The field for an answer's reason or note, and the usual reasons as buttons.

import { h, setAttr, setText } from './dom.js';

const PRESETS = ['Not what was asked for', 'Wrong amount or target', 'Not enough information', 'Against policy', 'Not now, ask again later'];
const MAX = 2000;
export const NOTE = 'Note (optional)';
export const REASON = 'Reason (the agent gets it)';
export const NEEDS_REASON = 'A rejection needs a reason: the agent and the trace will carry it.';

/** `id` of the field, `error` that of what is said against it; `changed` is called after each change. */
export function createReason({ id, error, changed }) {
  const presets = h('div', { class: 'presets', role: 'group', 'aria-label': 'Common reasons' },
    PRESETS.map((text) => h('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', onclick: () => take(text) }, text)));
  const label = h('label', { for: id });
  const input = h('textarea', { id, rows: '2', maxlength: String(MAX), dir: 'auto', 'aria-describedby': `${error} ${id}-count` });
  const field = h('div', { class: 'field' }, label, input);
  const count = h('span', { class: 'char-count', id: `${id}-count` });
  input.addEventListener('input', changed);

  function take(text) {
    const typed = input.value.trim();
    const known = PRESETS.includes(typed) || !typed;
    input.value = known ? (typed === text ? '' : text) : `${input.value.trimEnd()}\n${text}`.slice(0, MAX);
    changed();
    input.focus();
  }

  return {
    presets, field, input, count,
    text: () => input.value.trim(),
    /** For a rejection, an approval's note, or (`label` empty) nothing. */
    show({ words, isReason, rows = 2 }) {
      presets.hidden = !isReason;
      field.hidden = !words;
      setText(label, words ?? '');
      setAttr(input, 'rows', String(rows));
      setAttr(input, 'aria-required', isReason ? 'true' : null);
    },
    draw() {
      const text = input.value;
      for (const chip of presets.children) setAttr(chip, 'aria-pressed', String(text.split('\n').includes(chip.textContent)));
      setText(count, !field.hidden && text.length > MAX - 300 ? `${MAX - text.length} characters left` : '');
    },
  };
}
