// Conditions of arguments as rows: where in the arguments, how it is compared, with what. One field for the whole object
// {"<JSON pointer>": {comparison: value}}.

import { h, safeText, setAttr } from './dom.js';
import { isNumber, isObject, pointer as pointerOf, write } from './json.js';
import { newId } from './rules-fields.js';
import { readDocument } from './rules-places.js';

const TESTS = [
  ['equals', 'is'], ['in', 'is one of'], ['lte', 'is at most'], ['lt', 'is below'], ['gte', 'is at least'], ['gt', 'is above'],
  ['prefix', 'begins with'], ['exists', 'is there'], ['length_lte', 'is no longer than'],
];
const KNOWN = new Set(TESTS.map(([name]) => name));

/** A typed value: JSON where it reads as JSON, else text. */
function readValue(text) {
  const read = readDocument(text);
  return 'value' in read ? read.value : text;
}
/** A value as it is typed: text without its quotes, where it would not read as something else. */
function typed(value) {
  if (typeof value !== 'string') return write(value);
  return value.trim() === value && typeof readValue(value) === 'string' && readValue(value) === value && value !== '' ? value : write(value);
}

/** Items between commas; a list that is written as JSON is taken as it is. */
function readItems(text) {
  if (text.trim().startsWith('[')) return readValue(text);
  return text.split(',').map((item) => item.trim()).filter(Boolean).map(readValue);
}
function typedItems(value) {
  if (!Array.isArray(value)) return typed(value);
  const plain = value.map(typed);
  return plain.some((item) => /[,[\]{}"]/.test(item)) ? write(value) : plain.join(', ');
}

const kindOf = (value) => (isNumber(value) ? 'number' : typeof value === 'boolean' ? 'yes or no' : Array.isArray(value) ? `list of ${value.length}` : value === null ? 'null' : isObject(value) ? 'object' : 'text');

const READ = { in: readItems, prefix: (text) => text, exists: (text) => text !== 'no' };
const WRITE = { in: typedItems, prefix: (value) => (typeof value === 'string' ? value : write(value)), exists: (value) => (value === false ? 'no' : 'yes') };

export function conditionsField({ path, label, help, addWords, changed }) {
  const list = h('ul', { class: 'conditions' });
  const fault = h('p', { class: 'field-fault', id: newId('fault') });
  const other = h('p', { class: 'field-help', hidden: true }, 'Written in another form: edit it as text.');
  const add = h('button', { type: 'button', class: 'button small', onclick: () => { const row = rowOf('', 'equals', ''); rows.push(row); list.append(row.element); row.where.focus(); } }, addWords);
  const element = h('fieldset', { class: 'field conditions-field', 'aria-describedby': fault.id }, h('legend', {}, label), help ? h('p', { class: 'field-help' }, help) : '', list, other, add, fault);
  let rows = [];

  function rowOf(where, test, text) {
    const row = { where: h('input', { type: 'text', class: 'code', 'aria-label': `${label}: where in the arguments`, placeholder: '/amount', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', maxlength: '1000' }) };
    row.test = h('select', { 'aria-label': `${label}: comparison` }, TESTS.map(([name, words]) => h('option', { value: name }, words)));
    row.place = h('span', { class: 'value' });
    row.kind = h('span', { class: 'muted kind' });
    row.fault = h('p', { class: 'field-fault', id: newId('fault') });
    row.element = h('li', {}, row.where, row.test, row.place,
      h('button', { type: 'button', class: 'quiet', 'aria-label': 'Remove this condition', onclick: () => remove(row) }, '×'), row.kind, row.fault);
    row.where.value = where;
    row.test.value = test;
    setControl(row, text);
    row.where.addEventListener('change', () => { if (row.where.value && !row.where.value.startsWith('/')) { row.where.value = `/${row.where.value}`; changed(field); } });
    row.test.addEventListener('change', () => { setControl(row, row.value.value); });
    return row;
  }

  /** The control of a row's value: yes or no where it is asked whether something is there. */
  function setControl(row, text) {
    const isThere = row.test.value === 'exists';
    if (row.value?.tagName !== (isThere ? 'SELECT' : 'INPUT')) {
      row.value = isThere ? h('select', {}, h('option', { value: 'yes' }, 'yes'), h('option', { value: 'no' }, 'no')) : h('input', { type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', dir: 'auto' });
      setAttr(row.value, 'aria-label', `${label}: value`);
      setAttr(row.value, 'aria-describedby', row.fault.id);
      row.place.replaceChildren(row.value);
    }
    row.value.value = isThere ? (text === 'no' ? 'no' : 'yes') : ['yes', 'no'].includes(text) && row.was === 'exists' ? '' : text;
    row.was = row.test.value;
    setAttr(row.value, 'placeholder', row.test.value === 'in' ? 'EUR, USD' : null);
    drawKind(row);
  }

  const valueOf = (row) => (READ[row.test.value] ?? readValue)(row.value.value);
  function drawKind(row) { row.kind.replaceChildren(row.test.value === 'exists' || row.value.value === '' ? '' : kindOf(valueOf(row))); }

  function remove(row) {
    const at = rows.indexOf(row);
    rows = rows.filter((one) => one !== row);
    row.element.remove();
    (rows[at] ?? rows[at - 1])?.where.focus() ?? add.focus();
    changed(field);
  }

  const field = {
    path, element,
    /** The value that a path leads to, else the first row. */
    focus(to = []) {
      const row = rows.find(({ where }) => where.value === to[path.length]);
      (row?.value ?? rows[0]?.where ?? add).focus();
    },
    reset() { rows = []; list.replaceChildren(); },
    /** A row without a place is not there yet; of two of the same the last counts, and that is said. */
    read() {
      const all = new Map();
      for (const row of rows) {
        const where = row.where.value;
        row.twice = Boolean(all.get(where)?.has(row.test.value));
        if (where === '' && row.value.value === '') continue;
        if (!all.has(where)) all.set(where, new Map());
        all.get(where).set(row.test.value, valueOf(row));
      }
      return all.size ? Object.fromEntries([...all].map(([where, tests]) => [where, Object.fromEntries(tests)])) : undefined;
    },
    show(value) {
      const now = value === undefined ? '' : write(value);
      if (rows.length && other.hidden && write(field.read() ?? {}) === (now || '{}')) return;
      const fits = value === undefined || (isObject(value) && Object.values(value).every((tests) => isObject(tests) && Object.keys(tests).length > 0 && Object.keys(tests).every((name) => KNOWN.has(name))));
      other.hidden = fits;
      add.disabled = !fits;
      rows = !fits || value === undefined ? [] : Object.entries(value).flatMap(([where, tests]) => Object.entries(tests).map(([name, one]) => rowOf(where, name, (WRITE[name] ?? typed)(one))));
      list.replaceChildren(...rows.map((row) => row.element));
    },
    /** Faults below this field: [{path, detail}], each at its row. */
    tellAll(faults) {
      const [own, ofRows] = [[], new Map()];
      for (const one of faults) {
        const [where, test] = one.path.slice(path.length);
        const row = where === undefined ? null : rows.find((each) => each.where.value === where && (test === undefined || each.test.value === test)) ?? rows.find((each) => each.where.value === where);
        if (row) ofRows.set(row, [...ofRows.get(row) ?? [], one.detail]);
        else own.push(where === undefined ? one.detail : `${pointerOf(one.path.slice(path.length))}: ${one.detail}`);
      }
      for (const row of rows) {
        const words = [...ofRows.get(row) ?? [], row.twice ? 'is compared in the same way twice: the last counts' : ''].filter(Boolean);
        row.fault.replaceChildren(...safeText(words.join('; ')));
        for (const control of [row.where, row.value]) setAttr(control, 'aria-invalid', words.length ? 'true' : null);
      }
      fault.replaceChildren(...safeText(own.join('; ')));
    },
  };
  list.addEventListener('input', (event) => { const row = rows.find((one) => one.element.contains(event.target)); if (row) drawKind(row); changed(field); });
  list.addEventListener('change', (event) => { if (event.target.tagName === 'SELECT') changed(field); });
  return field;
}
