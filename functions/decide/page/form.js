// The fields of schema.js as a form: draws them, writes what is typed back into them, and tells faults where they are.

import { h, hasHidden, markedText, safeText, setAttr } from './dom.js';
import { pathOf, pointer } from './json.js';
import { nearest } from './fields.js';

let last = 0;

/** `changed()` is called after each change. */
export function createForm({ changed }) {
  const element = h('div', { class: 'answer-form' });
  let [field, label] = [null, ''];
  let places = new Map(); // pointer -> {control, fault}

  function draw() {
    places = new Map();
    element.replaceChildren(drawField(field, [], label));
  }

  function drawField(one, path, name) {
    if (one.kind === 'object') return drawObject(one, path, name);
    return one.kind === 'array' ? drawArray(one, path, name) : drawLeaf(one, path, name);
  }

  const nameOf = (one, name) => [h('code', {}, safeText(name, true)), one.title && one.title !== name ? [' ', safeText(one.title)] : '', one.empty === 'absent' ? ' (optional)' : ''];

  /** Where faults of a field stand, and its help. */
  function notes(one, path, control) {
    last += 1;
    const [fault, help] = [h('p', { class: 'field-fault', id: `fault-${last}` }), one.help ? h('p', { class: 'field-help', id: `help-${last}`, dir: 'auto' }, safeText(one.help)) : ''];
    setAttr(control, 'aria-describedby', [fault.id, help.id].filter(Boolean).join(' '));
    places.set(pointer(path), { control, fault });
    return [help, fault];
  }

  function group(one, path, name, ...body) {
    const box = h('fieldset', { class: path.length ? 'nested' : 'root', tabindex: '-1' }, h('legend', { class: path.length ? null : 'sr' }, nameOf(one, name)));
    box.append(...notes(one, path, box), ...body);
    return box;
  }

  const drawObject = (one, path, name) => group(one, path, name, ...one.members.map((member) => drawField(member, [...path, member.name], member.name || 'empty name')));

  function drawArray(one, path, name) {
    const redraw = (index) => { draw(); changed(); focus([...path, index]); };
    const items = one.items.map((item, n) => h('div', { class: 'item' }, drawField(item, [...path, n], `${name} ${n + 1}`),
      h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove ${markedText(name)} ${n + 1}`, onclick: () => { one.items.splice(n, 1); redraw(Math.min(n, one.items.length - 1)); } }, 'Remove')));
    const add = h('button', { type: 'button', class: 'button small', onclick: () => { one.items.push(structuredClone(one.blank)); redraw(one.items.length - 1); } }, 'Add ', h('bdi', {}, safeText(name)));
    return group(one, path, name, ...items, add);
  }

  function drawLeaf(one, path, name) {
    last += 1;
    const id = `field-${last}`;
    const control = controlOf(one, id);
    const exact = h('p', { class: 'field-exact' });
    const mark = () => exact.replaceChildren(...(one.kind === 'text' && hasHidden(one.text) ? ['With hidden characters: ', h('bdi', { class: 'v-string' }, safeText(one.text, true))] : []));
    control.addEventListener(one.kind === 'choice' ? 'change' : 'input', () => { one.text = control.value; mark(); changed(); });
    mark();
    return h('div', { class: 'field' }, h('label', { for: id }, nameOf(one, name)), control, exact, ...notes(one, path, control));
  }

  /** Focuses the field of a path, or the first that takes text. */
  function focus(path) {
    const found = path && places.get(nearest(field, path.map(String)).pointer)?.control;
    const control = found?.matches('input, textarea, select') ? found : (found ?? element).querySelector('input, textarea, select') ?? found;
    (control ?? element.querySelector('button'))?.focus();
  }

  return {
    element, focus,
    get field() { return field; },
    show(next, name) { [field, label] = [next, name]; draw(); },
    /** Shows each fault at its field; returns those that have none. */
    tell(faults) {
      const said = new Map();
      for (const { pointer: at, detail } of faults) {
        const place = nearest(field, pathOf(at));
        said.set(place.pointer, [...said.get(place.pointer) ?? [], place.isExact ? detail : `${at}: ${detail}`]);
      }
      for (const [at, { control, fault }] of places) {
        const words = said.get(at);
        if (control.tagName !== 'FIELDSET') setAttr(control, 'aria-invalid', words ? 'true' : null);
        fault.replaceChildren(...(words ? safeText(words.join(' ')) : []));
      }
      return [...said.keys()];
    },
  };
}

function controlOf(one, id) {
  const common = { id, dir: 'auto', autocomplete: 'off', autocapitalize: 'off', spellcheck: one.kind === 'text' ? null : 'false' };
  if (one.kind === 'choice') {
    const blank = one.empty === 'null' ? 'null' : one.empty === 'absent' ? 'left out' : 'choose';
    const select = h('select', { id }, one.empty === 'missing' && one.options.includes(one.text) ? '' : h('option', { value: '' }, `(${blank})`),
      one.options.map((text) => h('option', { value: text }, markedText(text.startsWith('"') ? JSON.parse(text) || '""' : text))));
    select.value = one.text;
    return select;
  }
  const isLong = one.kind === 'json' || one.isLong;
  const rows = String(Math.min(10, Math.max(2, one.text.split('\n').length)));
  const control = isLong ? h('textarea', { ...common, rows, class: one.kind === 'json' ? 'code' : null }) : h('input', { ...common, type: 'text', inputmode: one.kind === 'text' ? null : 'decimal' });
  control.value = one.text;
  return control;
}
