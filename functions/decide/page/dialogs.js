// What stands over the queue for a while: toasts, banners, the list of keys, the operator's own settings.

import { h, byId, safeText } from './dom.js';
import { alertsOn, setAlerts } from './alerts.js';
import { pushField } from './push.js';
import { exact } from './time.js';

/** Says what was done; goes away by itself. */
export function toast(...content) {
  const el = h('p', { class: 'toast' }, ...content);
  const place = byId('toasts');
  place.append(el);
  const passing = place.querySelectorAll('.toast:not(.failure)');
  if (passing.length > 3) passing[0].remove();
  setTimeout(() => el.remove(), 7000);
}

/** Says what went wrong at a request that is not open; stays until it is looked at. */
export function toastFailure(title, words, open) {
  const el = h('div', { class: 'toast failure' }, h('p', {}, title), h('p', {}, words),
    h('div', { class: 'toast-row' },
      h('button', { type: 'button', class: 'button small', onclick: () => { el.remove(); open(); } }, 'Open'),
      h('button', { type: 'button', class: 'button small', onclick: () => el.remove() }, 'Dismiss')));
  byId('toasts').append(el);
}

export const announce = (text) => { byId('announce').textContent = text; };

const banners = new Map();
/** Shows, changes or (text empty) removes the banner called `name`. */
export function banner(name, text, { kind = 'info', action, onAction } = {}) {
  const old = banners.get(name);
  if ((old?.dataset.text ?? '') === text) return;
  if (!text) { old.remove(); banners.delete(name); return; }
  const el = h('div', { class: 'banner', 'data-kind': kind, 'data-text': text, role: kind === 'bad' ? 'alert' : 'status' },
    h('p', {}, text), action ? h('button', { type: 'button', class: 'button small', onclick: onAction }, action) : '');
  if (old) old.replaceWith(el); else byId('banners').append(el);
  banners.set(name, el);
}

/** Opens a dialog, unless one is open: then null. */
export function openDialog(title, ...body) {
  if (document.querySelector('dialog[open]')) return null;
  const close = h('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, 'Close');
  const dialog = h('dialog', { class: 'dialog', 'aria-label': title }, h('div', { class: 'dialog-head' }, h('h2', {}, title), close), ...body);
  const before = document.activeElement;
  dialog.addEventListener('close', () => { dialog.remove(); before?.isConnected && before.focus?.(); });
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function checkbox(id, label, on, set) {
  const input = h('input', { type: 'checkbox', id });
  input.checked = on;
  input.addEventListener('change', () => set(input.checked));
  return h('label', { class: 'check-field', for: id }, input, h('span', {}, label));
}

const KEYS = [
  [['J', '↓'], 'Next request'], [['K', '↑'], 'Previous request'], [['Enter'], 'Open it, or go to its text'],
  [['A'], 'Approve'], [['R'], 'Reject'], [['E'], 'Edit, and approve with changes'], [['T'], 'Respond with text or a form'], [['Ctrl Enter', '⌘ Enter'], 'Send the answer'],
  [['X'], 'Select the request, to answer several at once'], [['Shift A', 'Shift R'], 'Approve, reject the selected'],
  [['Alt ↑', 'Alt ↓'], 'Move the rule, in the list of rules'], [['/'], 'Search'], [['Esc'], 'Step back: form, search, request, list'], [['?'], 'This list'],
];

export function showKeys({ on, set }) {
  openDialog('Keyboard shortcuts',
    h('table', { class: 'keys' }, h('tbody', {}, KEYS.map(([keys, what]) =>
      h('tr', {}, h('th', { scope: 'row' }, keys.flatMap((k, i) => [i ? ' or ' : '', h('kbd', {}, k)])), h('td', {}, what))))),
    checkbox('keys-on', 'Single-letter keys are on', on, set),
    h('p', { class: 'muted' }, 'They never act while you type in a field.'));
}

/** Who is signed in, until when, and what this person can set. */
export function showSettings(session, { signOut, renew, delegations }) {
  const said = h('p', { class: 'muted', role: 'status' });
  const dialog = openDialog(session.name,
    h('p', { class: 'muted' }, 'Signed in as ', h('bdi', {}, session.id ?? session.sub), session.exp ? ` until ${exact(session.exp).replace(/ \(.*/, '')}` : '',
      session.groups?.length ? ['; groups: ', session.groups.map((group, n) => [n ? ', ' : '', h('bdi', {}, safeText(group))])] : '',
      session.tenant && session.tenant !== 'default' ? ['; tenant: ', h('bdi', {}, safeText(session.tenant))] : ''),
    checkbox('alerts-on', 'Alert me to new P1 requests: a sound, and a notification while this page is not in front', alertsOn(),
      async (on) => { said.textContent = await setAlerts(on); }),
    delegations ? pushField(session.id ?? session.sub, (words) => { said.textContent = words; }) : '', // of those who may decide
    said,
    h('div', { class: 'bar-row' },
      delegations ? h('button', { type: 'button', class: 'button', id: 'delegations', onclick: () => { dialog.close(); delegations(); } }, 'Delegations…') : '',
      h('button', { type: 'button', class: 'button', id: 'sign-out', onclick: signOut }, 'Sign out'),
      h('button', { type: 'button', class: 'quiet', onclick: () => { dialog.close(); renew(); } }, 'Sign in again')));
}
