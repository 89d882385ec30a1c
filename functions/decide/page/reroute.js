// Asking others instead: the form for it, in a dialog.

import { h, safeText, setText } from './dom.js';
import * as api from './api.js';
import { createChooser, suggestAmong, suggestOperators } from './chooser.js';
import { openDialog } from './dialogs.js';
import { nameOf } from './names.js';
import { refusalWords } from './problems.js';

/** `groups` are those that the page knows of; `done()` is called after it. */
export function rerouteDialog(detail, { groups, done }) {
  const asked = detail.assigned_to;
  const known = [...new Set([...groups, ...(asked?.groups ?? [])])];
  const group = createChooser({ id: 'reroute-groups', label: 'Groups', help: known.length ? `For example ${known.slice(0, 4).join(', ')}` : 'Their names', most: 20, suggest: suggestAmong(() => known), isFree: true });
  const people = createChooser({ id: 'reroute-operators', label: 'Operators', help: 'By name, e-mail address or group', most: 20, suggest: suggestOperators });
  group.set((asked?.groups ?? []).map((value) => ({ value, name: value })));
  people.set((asked?.operators ?? []).map((value) => ({ value, name: nameOf(value) })));
  const reason = h('textarea', { id: 'reroute-reason', rows: '2', maxlength: '2000', dir: 'auto', 'aria-required': 'true', 'aria-describedby': 'reroute-error' });
  const error = h('p', { class: 'composer-error', id: 'reroute-error', role: 'alert' });
  const submit = h('button', { type: 'submit', class: 'button primary' }, 'Reroute');
  const form = h('form', { class: 'dialog-form', novalidate: true },
    group.element, people.element,
    h('div', { class: 'field' }, h('label', { for: 'reroute-reason' }, 'Reason (the trace carries it)'), reason),
    error, h('div', { class: 'bar-row' }, submit));
  const dialog = openDialog('Ask others', h('p', {}, 'Those named here may decide “', h('bdi', {}, safeText(detail.title)), '” from then on, and no others. Votes of others no longer count.'), form);
  if (!dialog) return;
  group.focus();
  form.addEventListener('keydown', (event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const say = (words, field) => { setText(error, words); field?.focus(); };
    if (!await group.take() || !await people.take()) return;
    const [groupNames, operators] = [group.values(), people.values()];
    if (!groupNames.length && !operators.length) { say('Name a group or an operator.', group); return; }
    if (!reason.value.trim()) { say('Say why: the trace will carry it.', reason); return; }
    say('');
    submit.setAttribute('aria-disabled', 'true');
    try {
      await api.reroute(detail.request_id, { ...(groupNames.length && { groups: groupNames }), ...(operators.length && { operators }), reason: reason.value.trim() });
      dialog.close();
      done();
    } catch (failure) {
      submit.removeAttribute('aria-disabled');
      say(refusalWords(failure));
    }
  });
}
