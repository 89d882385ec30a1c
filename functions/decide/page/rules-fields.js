// The fields that a rule's form is made of. Each stands for one part of the rule: {path, element, show(value), read(), tell(words)}.
// A field leaves alone what it already says, so that nothing is changed under who types; a part that it cannot say is only
// told, and edited as text.

import { h, safeText, setAttr } from './dom.js';
import { isNumber, numberOf, write } from './json.js';

let last = 0;
export const newId = (kind) => { last += 1; return `rule-${kind}-${last}`; };
const written = (value) => (value === undefined ? '' : write(value));
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/**
 * `say(value)` writes a value into the control and returns false where it cannot; `read()` gives the value, undefined: left
 * out; `changed(field)` is called after each change by its person.
 */
function fieldOf({ path, label, help = '', control, box, say, read, changed, event = 'input' }) {
  const ids = { control: control.id, help: help && newId('help'), fault: newId('fault') };
  const fault = h('p', { class: 'field-fault', id: ids.fault });
  const other = h('p', { class: 'field-help', hidden: true }, 'Written in another form: edit it as text.');
  setAttr(control, 'aria-describedby', [ids.help, ids.fault].filter(Boolean).join(' '));
  const element = h('div', { class: 'field' }, label ? h('label', { for: ids.control }, label) : '', box ?? control,
    help ? h('p', { class: 'field-help', id: ids.help }, help) : '', other, fault);
  let shown = '';
  const field = {
    path, element, control, read,
    focus: () => control.focus(),
    show(value) {
      if (other.hidden && shown !== '' && written(field.read()) === written(value)) return;
      shown = 'shown';
      const fits = say(value) !== false;
      other.hidden = fits;
      for (const one of element.querySelectorAll('input, textarea, select')) one.disabled = !fits;
    },
    tell(words) {
      setAttr(control, 'aria-invalid', words ? 'true' : null);
      fault.replaceChildren(...(words ? safeText(words) : []));
    },
  };
  element.addEventListener(event, () => changed(field));
  return field;
}

const input = (kind, more = {}) => h('input', { id: newId(kind), type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', dir: 'auto', ...more });

export function textField(options) {
  const control = options.rows ? h('textarea', { id: newId('text'), rows: options.rows, dir: 'auto', maxlength: options.most }) : input('text', { maxlength: options.most });
  return fieldOf({ ...options, control,
    say(value) { control.value = value ?? ''; return value === undefined || typeof value === 'string'; },
    read: () => (control.value === '' && !options.isNeeded ? undefined : control.value) });
}

/** A number as it is typed; what is none stays text, and the server says what is wrong with it. */
export function readNumber(text) {
  const source = text.trim();
  return source === '' ? undefined : NUMBER.test(source) ? numberOf(source) : source;
}

export function numberField(options) {
  const control = input('number', { inputmode: 'decimal', class: 'short' });
  const box = h('div', { class: 'with-unit' }, control, options.unit ? h('span', { class: 'muted' }, options.unit) : '');
  return fieldOf({ ...options, control, box,
    say(value) { control.value = value === undefined ? '' : String(value); return value === undefined || isNumber(value) || typeof value === 'string'; },
    read: () => readNumber(control.value) });
}

const UNITS = [[86_400, 'days'], [3600, 'hours'], [60, 'minutes'], [1, 'seconds']];

/** A length of time: a number and a unit; kept in seconds. */
export function timeField(options) {
  const control = input('time', { inputmode: 'numeric', class: 'short' });
  const unit = h('select', { 'aria-label': `Unit of ${options.label}` }, UNITS.toReversed().map(([size, name]) => h('option', { value: String(size) }, name)));
  return fieldOf({ ...options, control, box: h('div', { class: 'with-unit' }, control, unit),
    say(value) {
      if (value !== undefined && !isNumber(value) && typeof value !== 'string') { control.value = ''; return false; }
      const n = Number(value);
      const [size] = (value !== undefined && Number.isInteger(n) && n > 0 && UNITS.find(([one]) => n % one === 0)) || [value === undefined ? 60 : 1];
      unit.value = String(size);
      control.value = value === undefined ? '' : Number.isInteger(n) ? String(n / size) : String(value);
      return true;
    },
    read() {
      const typed = readNumber(control.value);
      const seconds = Number(typed) * Number(unit.value);
      return typeof typed === 'number' && Number.isSafeInteger(seconds) ? seconds : typed;
    } });
}

/** A list of texts, one a line. */
export function linesField(options) {
  const control = h('textarea', { id: newId('lines'), rows: '1', class: 'lines', dir: 'auto', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off' });
  const fit = () => setAttr(control, 'rows', String(Math.min(6, Math.max(1, control.value.split('\n').length))));
  control.addEventListener('input', fit);
  return fieldOf({ ...options, control,
    say(value) {
      const fits = value === undefined || (Array.isArray(value) && value.every((item) => typeof item === 'string' && item.trim() === item && item !== '' && !/[\r\n]/.test(item)));
      control.value = fits ? (value ?? []).join('\n') : '';
      fit();
      return fits;
    },
    read() {
      const items = control.value.split('\n').map((item) => item.trim()).filter(Boolean);
      return items.length ? items : undefined;
    } });
}

/** `choices`: [[value, words]]; the value undefined is what is left out. */
export function choiceField(options) {
  const control = h('select', { id: newId('choice') }, options.choices.map(([, words], n) => h('option', { value: String(n) }, words)));
  return fieldOf({ ...options, control, event: 'change',
    say(value) {
      const at = options.choices.findIndex(([one]) => written(one) === written(value));
      control.value = String(Math.max(0, at));
      return at >= 0;
    },
    read: () => options.choices[Number(control.value)][0] });
}

/** Any of some texts, in their order, as boxes. */
export function boxesField(options) {
  const boxes = options.values.map((value) => h('input', { type: 'checkbox', id: newId('box'), value }));
  const control = h('div', { role: 'group', 'aria-label': options.label, class: 'boxes' },
    boxes.map((box) => h('label', { class: 'check-field', for: box.id }, box, h('span', {}, box.value))));
  const field = fieldOf({ ...options, label: '', control: h('span', { id: newId('boxes') }), box: h('div', {}, h('span', { class: 'label' }, options.label), control), event: 'change',
    say(value) {
      for (const box of boxes) box.checked = Array.isArray(value) && value.includes(box.value);
      return value === undefined || (Array.isArray(value) && written(value) === written(field.read()));
    },
    read() {
      const chosen = boxes.filter(({ checked }) => checked).map(({ value }) => value);
      return chosen.length ? chosen : undefined;
    } });
  field.focus = () => boxes[0].focus();
  return field;
}

/** For whom the agent acts: nothing said, somebody, nobody, or people, one a line. */
export function behalfField(options) {
  const KINDS = [['', 'does not matter'], ['present', 'somebody, whoever it is'], ['absent', 'nobody'], ['list', 'one of these people']];
  const control = h('select', { id: newId('behalf') }, KINDS.map(([value, words]) => h('option', { value }, words)));
  const people = h('textarea', { rows: '2', class: 'lines', 'aria-label': `${options.label}: people, one a line`, dir: 'auto', spellcheck: 'false' });
  const draw = () => { people.hidden = control.value !== 'list'; };
  control.addEventListener('change', draw);
  return fieldOf({ ...options, control, box: h('div', { class: 'stack' }, control, people),
    say(value) {
      const isList = Array.isArray(value) && value.every((item) => typeof item === 'string' && !item.includes('\n'));
      control.value = isList ? 'list' : ['present', 'absent'].includes(value) ? value : '';
      people.value = isList ? value.join('\n') : '';
      draw();
      return isList || value === undefined || control.value !== '';
    },
    read() {
      if (control.value !== 'list') return control.value || undefined;
      return people.value.split('\n').map((item) => item.trim()).filter(Boolean);
    } });
}
