// What stands over or instead of the queue: toasts, banners, the list of keys, signing in.

import { h, byId, safeText } from './dom.js';
import { readToken } from './session.js';

/** Says what was done; goes away by itself. */
export function toast(...content) {
  const el = h('p', { class: 'toast' }, ...content);
  const place = byId('toasts');
  place.append(el);
  while (place.children.length > 3) place.firstElementChild.remove();
  setTimeout(() => el.remove(), 7000);
}

export const announce = (text) => { byId('announce').textContent = text; };

const banners = new Map();
/** Shows, changes or (text empty) removes the banner called `name`. */
export function banner(name, text, { kind = 'info', action, onAction } = {}) {
  const old = banners.get(name);
  if (old?.dataset.text === text) return;
  if (!text) { old?.remove(); banners.delete(name); return; }
  const el = h('div', { class: 'banner', 'data-kind': kind, 'data-text': text, role: kind === 'bad' ? 'alert' : 'status' },
    h('p', {}, text), action ? h('button', { type: 'button', class: 'button small', onclick: onAction }, action) : '');
  if (old) old.replaceWith(el); else byId('banners').append(el);
  banners.set(name, el);
}

function openDialog(title, ...body) {
  const close = h('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, 'Close');
  const dialog = h('dialog', { class: 'dialog', 'aria-label': title }, h('div', { class: 'dialog-head' }, h('h2', {}, title), close), ...body);
  const before = document.activeElement;
  dialog.addEventListener('close', () => { dialog.remove(); before?.isConnected && before.focus?.(); });
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const KEYS = [
  [['J', '↓'], 'Next request'], [['K', '↑'], 'Previous request'], [['Enter'], 'Open it, or go to its text'],
  [['A'], 'Approve'], [['R'], 'Reject'], [['Ctrl Enter', '⌘ Enter'], 'Send the answer'],
  [['/'], 'Search'], [['Esc'], 'Step back: form, search, request, list'], [['?'], 'This list'],
];

export function showKeys({ on, set }) {
  if (document.querySelector('dialog[open]')) return;
  const toggle = h('input', { type: 'checkbox', id: 'keys-on' });
  toggle.checked = on;
  toggle.addEventListener('change', () => set(toggle.checked));
  openDialog('Keyboard shortcuts',
    h('table', { class: 'keys' }, h('tbody', {}, KEYS.map(([keys, what]) =>
      h('tr', {}, h('th', { scope: 'row' }, keys.flatMap((k, i) => [i ? ' or ' : '', h('kbd', {}, k)])), h('td', {}, what))))),
    h('label', { class: 'check-field', for: 'keys-on' }, toggle, ' Single-letter keys are on'),
    h('p', { class: 'muted' }, 'They never act while you type in a field.'));
}

/** The field that takes a token; `use` gets the decoded session. */
function tokenForm(use, label = 'Token') {
  const input = h('input', { id: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', 'aria-describedby': 'token-error' });
  const error = h('p', { class: 'composer-error', id: 'token-error', role: 'alert' });
  const form = h('form', { class: 'token-form', novalidate: true },
    h('div', { class: 'field' }, h('label', { for: 'token' }, label), input), error,
    h('button', { type: 'submit', class: 'button primary' }, 'Sign in'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const session = readToken(input.value);
    error.textContent = !session ? 'This is not a token: three parts joined by dots are expected.'
      : session.exp && session.exp <= Date.now() - 60_000 ? 'This token has expired.' : '';
    if (error.textContent) { input.setAttribute('aria-invalid', 'true'); input.focus(); } else use(session);
  });
  return { form, input };
}

/** Renewing while still signed in: over the page, which stays as it is. */
export function renewDialog(use) {
  if (document.querySelector('dialog[open]')) return;
  const { form, input } = tokenForm((session) => { dialog.close(); use(session); }, 'New token');
  const dialog = openDialog('Sign in again', h('p', {}, 'Your place and what you typed stay as they are.'), form);
  input.focus();
}

const GATES = {
  none: ['Sign in', 'Requests are shown to operators. Paste a token from your organisation’s issuer.'],
  ended: ['Signed out', 'Your sign-in has ended. Your place and what you typed are kept: sign in to go on.'],
};

/** Instead of the page: signed out, or signed in as someone who may not see the queue. */
export function showGate(kind, { session, local, use }) {
  const gate = byId('gate');
  const key = `${kind}:${session?.sub ?? ''}`;
  if (!gate.hidden && gate.dataset.key === key) return;
  gate.dataset.key = key;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  const [title, text] = kind === 'forbidden' ? ['No access to the queue', null] : GATES[kind];
  const { form, input } = tokenForm(use);
  gate.replaceChildren(h('div', { class: 'gate-card' },
    h('h2', {}, title),
    text ? h('p', {}, text) : h('p', {}, 'Signed in as ', h('bdi', {}, safeText(session?.name ?? '')),
      `, with ${session?.roles.length ? `the role ${session.roles.join(', ')}` : 'no role'}. Seeing and deciding requests needs the role operator.`),
    local && kind !== 'forbidden' ? h('p', { class: 'muted' }, 'This is a local development stack: the address it printed when it started signs you in.') : '',
    form,
    h('p', { class: 'muted' }, 'The token stays in this tab and is sent only to the API, as a header.')));
  byId('main').hidden = true;
  gate.hidden = false;
  input.focus();
}

export function hideGate() {
  byId('gate').hidden = true;
  byId('gate').replaceChildren();
  delete byId('gate').dataset.key;
  byId('main').hidden = false;
}
