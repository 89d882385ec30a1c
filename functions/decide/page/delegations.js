// Who may decide for whom: this person's delegations, the form for a new one, and those that others have given them.

import { h, safeText, setText } from './dom.js';
import * as api from './api.js';
import { createChooser, suggestOperators } from './chooser.js';
import { openDialog } from './dialogs.js';
import { refusalWords } from './problems.js';
import { now, timeNode } from './time.js';

const DAY = 86_400_000;
const MOST_DAYS = 90;
const PAST = 5; // of those that are over, the latest
const two = (n) => String(n).padStart(2, '0');
/** A time as a field for date and time wants it, in this place's time. */
const local = (ms) => { const at = new Date(ms); return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`; };
const nameOf = (person) => h('bdi', {}, safeText(String(person?.name || person?.id || 'unknown')));

function stateOf({ from, until, ended_at: ended, in_force: inForce }, at) {
  if (ended) return ['ended ', timeNode(ended)];
  if (Date.parse(until) <= at) return ['over since ', timeNode(until)];
  if (Date.parse(from) > at) return ['begins ', timeNode(from), ', ends ', timeNode(until)];
  return inForce === false ? ['does not count at present, ends ', timeNode(until)] : ['in force, ends ', timeNode(until)];
}
const isOver = ({ until, ended_at: ended }) => Boolean(ended) || Date.parse(until) <= now();

/** `me`: {id, groups}. */
export function delegationsDialog(me) {
  const given = h('ul', { class: 'delegations' });
  const got = h('ul', { class: 'delegations' });
  const said = h('p', { class: 'composer-error', role: 'alert' });
  const dialog = openDialog('Delegations',
    h('h3', {}, 'They decide for you'), given, h('h3', {}, 'You decide for them'), got, said, makeForm(me, () => load()));
  if (!dialog) return;
  dialog.classList.add('roomy');

  const item = (one, person, mayEnd) => h('li', {},
    h('p', {}, h('strong', {}, nameOf(person)), ' through ', one.groups.map((group, n) => [n ? ', ' : '', h('bdi', {}, safeText(group))])),
    h('p', { class: 'muted' }, stateOf(one, now()), ' · ', h('q', { class: 'reason', dir: 'auto' }, safeText(one.reason ?? ''))),
    mayEnd && !isOver(one) ? h('button', { type: 'button', class: 'button small', 'aria-label': `End the delegation to ${person?.name || person?.id}`, onclick: () => end(one) }, 'End it') : '');

  async function end({ delegation_id: id }) {
    setText(said, '');
    try { await api.endDelegation(id); } catch (failure) { setText(said, refusalWords(failure)); return; }
    await load();
    dialog.querySelector('button')?.focus();
  }

  async function load() {
    let all;
    try { all = await api.getDelegations(); } catch (failure) { setText(said, refusalWords(failure)); return; }
    const fill = (list, those, words) => list.replaceChildren(...(those.length ? those : [h('li', { class: 'muted' }, words)]));
    const mine = all.filter(({ by }) => by?.id === me.id);
    fill(given, [...mine.filter((one) => !isOver(one)), ...mine.filter(isOver).slice(0, PAST)].map((one) => item(one, { id: one.to, name: one.to_name }, true)), 'Nobody.');
    fill(got, all.filter((one) => one.to === me.id && !isOver(one)).map((one) => item(one, one.by, false)), 'Nobody.');
  }
  load();
}

function makeForm(me, made) {
  const to = createChooser({ id: 'delegate-to', label: 'Operator', help: 'By name, e-mail address or group', most: 1, suggest: suggestOperators });
  const groups = me.groups.map((group) => h('input', { type: 'checkbox', value: group, checked: me.groups.length === 1, id: `delegate-group-${group}` }));
  const time = (id, words, ms) => { const input = h('input', { type: 'datetime-local', id, value: local(ms), 'aria-describedby': 'delegate-error' }); return { input, field: h('div', { class: 'field' }, h('label', { for: id }, words), input) }; };
  const [from, until] = [time('delegate-from', 'From', now()), time('delegate-until', 'Until', now() + 7 * DAY)];
  const reason = h('input', { id: 'delegate-reason', type: 'text', maxlength: '2000', dir: 'auto', autocomplete: 'off', 'aria-describedby': 'delegate-error' });
  const error = h('p', { class: 'composer-error', id: 'delegate-error', role: 'alert' });
  const form = h('form', { class: 'dialog-form', novalidate: true, 'aria-labelledby': 'h-delegate' },
    h('h3', { id: 'h-delegate' }, 'Let somebody decide for you'),
    to.element,
    h('fieldset', {}, h('legend', {}, 'Groups through which they may decide'),
      groups.length ? groups.map((input) => h('label', { class: 'check-field', for: input.id }, input, h('span', {}, h('bdi', {}, safeText(input.value)))))
        : h('p', { class: 'muted' }, 'Your token names no groups, so there is nothing that you could hand on.')),
    h('div', { class: 'times' }, from.field, until.field),
    h('div', { class: 'field' }, h('label', { for: 'delegate-reason' }, 'Reason'), reason),
    error, h('div', { class: 'bar-row' }, h('button', { type: 'submit', class: 'button primary' }, 'Delegate')));

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const say = (words, field) => { setText(error, words); field?.focus(); };
    say('');
    if (!await to.take()) return;
    const chosen = groups.filter(({ checked }) => checked).map(({ value }) => value);
    const [start, end] = [from, until].map(({ input }) => new Date(input.value).getTime());
    if (!to.values().length) { to.fault('Say who.'); return; }
    if (!chosen.length) { say('Choose a group.', groups[0]); return; }
    if (!(end > start) || !(end > now())) { say('It has to end after it begins, and later than now.', until.input); return; }
    if (end - start > MOST_DAYS * DAY) { say(`${MOST_DAYS} days are the most.`, until.input); return; }
    if (!reason.value.trim()) { say('Say why.', reason); return; }
    const id = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    try {
      await api.delegate(id, { to: to.values()[0], groups: chosen, from: new Date(Math.max(start, 0)).toISOString(), until: new Date(end).toISOString(), reason: reason.value.trim() });
    } catch (failure) { say(refusalWords(failure)); return; }
    to.set([]);
    reason.value = '';
    made();
  });
  return form;
}
