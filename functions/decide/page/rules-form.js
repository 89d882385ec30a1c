// A rule as a form: what it is about, and what it does. Each field writes its own part of the rule; what no field knows stays
// as it is written.

import { h, safeText } from './dom.js';
import { isObject, pointer } from './json.js';
import { behalfField, boxesField, choiceField, linesField, numberField, textField, timeField } from './rules-fields.js';
import { conditionsField } from './rules-conditions.js';
import { MODES, decides } from './rules-words.js';
import { PRIORITIES } from './state.js';

/** Objects that mean nothing when they are empty. */
const PRUNED = new Set(['not', 'at_most', 'escalate']);
const at = (value, path) => path.reduce((here, name) => (isObject(here) && Object.hasOwn(here, name) ? here[name] : undefined), value);

/** The same with one part changed; `undefined` takes it out. */
function withPart(value, [name, ...rest], part) {
  const here = isObject(value) ? value : {};
  const inner = rest.length ? withPart(here[name], rest, part) : part;
  if (inner === undefined || (rest.length && PRUNED.has(name) && !Object.keys(inner).length)) {
    return Object.fromEntries(Object.entries(here).filter(([other]) => other !== name));
  }
  return { ...here, [name]: inner };
}

const WHEN = (changed) => [
  linesField({ path: ['match', 'agents'], label: 'Agents', help: 'One a line. Empty: any', changed }),
  linesField({ path: ['match', 'action_types'], label: 'Action types', help: 'One a line, exact, or a beginning and *. Empty: any', changed }),
  boxesField({ path: ['match', 'priorities'], label: 'Priority that the agent asks with', values: PRIORITIES, changed }),
  conditionsField({ path: ['match', 'arguments'], label: 'Arguments: all of these hold', addWords: 'Add a condition', changed }),
  conditionsField({ path: ['match', 'not', 'arguments'], label: 'Unless all of these hold', addWords: 'Add an exception', changed }),
];
const WHEN_MORE = (changed) => [
  linesField({ path: ['match', 'groups'], label: 'Groups of requests', help: 'One a line. Empty: any', changed }),
  behalfField({ path: ['match', 'on_behalf_of'], label: 'On behalf of', changed }),
];
const DECIDE = (changed) => [
  textField({ path: ['then', 'reason'], label: 'Reason (the agent gets it, the record keeps it)', rows: '2', most: '2000', changed }),
  numberField({ path: ['then', 'at_most', 'count'], label: 'At most so many times (empty: no limit)', changed }),
  timeField({ path: ['then', 'at_most', 'per_seconds'], label: 'In', help: 'Beyond that, a person is asked', changed }),
];
const ASK = (changed) => [
  linesField({ path: ['then', 'ask', 'groups'], label: 'Groups that may decide', help: 'One a line. No group and no operator: every operator', changed }),
  linesField({ path: ['then', 'ask', 'operators'], label: 'Operators who may decide', help: 'Their ids, one a line', changed }),
  numberField({ path: ['then', 'ask', 'approvals'], label: 'Approvals needed', help: '1 to 10. Empty: as the timeout policy says', changed }),
  choiceField({ path: ['then', 'ask', 'priority'], label: 'Priority', choices: [[undefined, 'as the agent asks'], ...PRIORITIES.map((one) => [one, one])], changed }),
  timeField({ path: ['then', 'ask', 'respond_within_seconds'], label: 'Time to answer', changed }),
  choiceField({ path: ['then', 'ask', 'on_timeout'], label: 'When time is over', choices: [[undefined, 'as the timeout policy says'], ['auto_reject', 'reject'], ['raise', 'raise the priority']], changed }),
];
const ASK_MORE = (changed) => [
  numberField({ path: ['then', 'ask', 'escalate', 'after_percent'], label: 'Escalate after', unit: '% of the time', changed }),
  linesField({ path: ['then', 'ask', 'escalate', 'groups'], label: 'Then also ask the groups', changed }),
  linesField({ path: ['then', 'ask', 'reroute_to'], label: 'May be rerouted to the groups', changed }),
  timeField({ path: ['then', 'ask', 'permit_seconds'], label: 'An approval can be used for', changed }),
  choiceField({ path: ['then', 'ask', 'consume'], label: 'Using an approval', choices: [[undefined, 'may be reported'], ['required', 'has to be reported (consumed)']], changed }),
  choiceField({ path: ['then', 'ask', 'requester_may_decide'], label: 'For whom it is asked', choices: [[undefined, 'may not approve it'], [true, 'may approve it'], [false, 'may not approve it (said)']], changed }),
];

function modeRadios(changed) {
  const radios = Object.entries(MODES).map(([value, { icon, name, words }]) => {
    const input = h('input', { type: 'radio', name: 'rule-mode', value, id: `rule-mode-${value}` });
    return { input, element: h('label', { class: 'mode', for: input.id, title: words }, input, h('span', { 'aria-hidden': 'true' }, icon), ' ', name) };
  });
  const fault = h('p', { class: 'field-fault' });
  const help = h('p', { class: 'field-help' });
  const element = h('fieldset', { class: 'modes' }, h('legend', { class: 'sr' }, 'Mode'), h('div', { class: 'boxes' }, radios.map((radio) => radio.element)), help, fault);
  const field = {
    path: ['mode'], element,
    focus: () => radios[0].input.focus(),
    read: () => radios.find(({ input }) => input.checked)?.input.value,
    show(value) {
      for (const { input } of radios) input.checked = input.value === value;
      help.replaceChildren(MODES[value] ? `${MODES[value].words[0].toUpperCase()}${MODES[value].words.slice(1)}.` : '');
    },
    tell(words) { fault.replaceChildren(...safeText(words)); },
  };
  element.addEventListener('change', () => changed(field));
  return field;
}

/** `change(rule, path)` takes the rule as it is now, and which part of it was changed. */
export function createRuleForm({ change }) {
  let rule = null;
  let told = '[]';
  let [key, other] = ['', {}]; // what the other kind of effect said, where one goes back to it
  const changed = (field) => {
    rule = withPart(rule, field.path, field.read());
    change(rule, field.path);
  };
  const name = textField({ path: ['name'], label: 'Name', most: '100', isNeeded: true, changed });
  const mode = modeRadios(changed);
  const [when, whenMore, decide, ask, askMore] = [WHEN, WHEN_MORE, DECIDE, ASK, ASK_MORE].map((make) => make(changed));
  const kind = choiceField({ path: ['then'], label: 'Then', choices: [['ask', 'ask people'], ['approve', 'approve, without a person'], ['reject', 'reject, without a person']], changed: changeKind });
  const fields = [name, mode, ...when, ...whenMore, ...decide, ...ask, ...askMore];
  const faults = h('ul', { class: 'rule-faults', role: 'alert' });
  const group = (words, ...all) => h('fieldset', { class: 'rule-part' }, h('legend', {}, words), ...all);
  const nodes = (all) => all.map(({ element }) => element);
  /** What is rarely said: open where it says something. */
  const more = (words, all) => ({ all, element: h('details', { class: 'rule-more' }, h('summary', {}, words), h('div', { class: 'stack' }, nodes(all))) });
  const folds = [more('More conditions: groups of requests, on whose behalf', whenMore), more('More: escalation, rerouting, use of the approval', askMore)];
  const [decideBox, askBox] = [h('div', { class: 'stack' }, nodes(decide)), h('div', { class: 'stack' }, nodes(ask), folds[1].element)];
  const whole = h('fieldset', { class: 'rule-fields' }, h('legend', { class: 'sr' }, 'Rule'), faults, mode.element, name.element,
    group('When', ...nodes(when), folds[0].element), group('Then', kind.element, decideBox, askBox));
  const unreadable = h('p', { class: 'caution', hidden: true }, 'The text cannot be read at present. The form shows what it said last, and waits.');
  const element = h('form', { class: 'rule-form', novalidate: true, 'aria-label': 'The rule as a form' }, unreadable, whole);
  element.addEventListener('submit', (event) => event.preventDefault());

  const kindOf = (value) => decides(value) || 'ask';
  function changeKind() {
    const [from, to] = [kindOf(rule), kind.read()];
    const then = isObject(rule.then) ? rule.then : {};
    if ((from === 'ask') === (to === 'ask')) rule = { ...rule, then: { ...then, decide: to } };
    else {
      const { decide: _, ...kept } = other;
      other = then;
      rule = { ...rule, then: to === 'ask' ? { ask: {}, ...kept } : { decide: to, ...kept } };
    }
    change(rule, ['then']);
    draw();
  }

  function draw() {
    const now = kindOf(rule);
    for (const field of fields) field.show(at(rule, field.path));
    kind.show(now);
    decideBox.hidden = now === 'ask';
    askBox.hidden = now !== 'ask';
  }

  return {
    element,
    focus: (path) => (path ? (fieldOf(path) ?? name) : name).focus(path),
    /** Draws an entry; fields that say the same are left alone. */
    show(entry, isReadable) {
      unreadable.hidden = isReadable;
      whole.disabled = !isReadable || !isObject(entry.rule);
      if (key !== entry.key) {
        [key, other] = [entry.key, {}];
        for (const field of fields) field.reset?.();
        for (const fold of folds) fold.element.open = false;
      }
      rule = isObject(entry.rule) ? entry.rule : {};
      draw();
      for (const fold of folds) {
        const isSaid = ({ path }) => at(rule, path) !== undefined || entry.faults.some((fault) => path.every((part, n) => part === fault.path[n]));
        if (fold.all.some(isSaid)) fold.element.open = true;
      }
      tell(entry.faults);
    },
  };

  function fieldOf(path) {
    return fields.find((field) => field.path.every((part, n) => part === path[n])) ?? (path[0] === 'then' ? kind : null);
  }

  function tell(all) {
    const [said, rest] = [new Map(), []];
    for (const fault of all) {
      const field = fieldOf(fault.path);
      if (field) said.set(field, [...said.get(field) ?? [], fault]);
      else rest.push(fault);
    }
    for (const field of [...fields, kind]) {
      const mine = said.get(field) ?? [];
      if (field.tellAll) field.tellAll(mine);
      else field.tell(mine.map(({ path, detail }) => (path.length > field.path.length ? `${pointer(path.slice(field.path.length))}: ${detail}` : detail)).join('; '));
    }
    const key = JSON.stringify(rest);
    if (key === told) return;
    told = key;
    faults.replaceChildren(...rest.map(({ path, detail }) => h('li', {}, h('code', {}, safeText(pointer(path) || 'the rule', true)), ': ', safeText(detail))));
  }
}
