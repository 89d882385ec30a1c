// Signing in: instead of the page while nobody is signed in or the person may not see the queue, and over the page
// when a new token is taken in time.

import { h, byId, safeText } from './dom.js';
import { openDialog } from './dialogs.js';
import { issuerHost, leaveForIssuer } from './login.js';
import { canDigest } from './digest.js';
import { isAdmin, readToken } from './session.js';

/** The two ways in: the issuer, where the deployment named a client there, and a pasted token. */
function waysIn(use, { label = 'Token', fault = '' } = {}) {
  const input = h('input', { id: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', 'aria-describedby': 'token-error' });
  const error = h('p', { class: 'composer-error', id: 'token-error', role: 'alert' }, fault);
  const form = h('form', { class: 'token-form', novalidate: true },
    h('div', { class: 'field' }, h('label', { for: 'token' }, label), input),
    h('button', { type: 'submit', class: issuerHost ? 'button' : 'button primary' }, 'Sign in'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const session = readToken(input.value);
    error.textContent = !session ? 'This is not a token: three parts joined by dots are expected.'
      : session.exp && session.exp <= Date.now() - 60_000 ? 'This token has expired.' : '';
    if (error.textContent) { input.setAttribute('aria-invalid', 'true'); input.focus(); } else use(session);
  });
  const issuer = issuerHost && h('button', { type: 'button', class: 'button primary', id: 'issuer' }, `Continue at ${issuerHost}`);
  if (issuer) issuer.addEventListener('click', () => leaveForIssuer().catch(({ message }) => { error.textContent = message; }));
  return { nodes: [issuer, error, form], first: issuer || input };
}

/** Renewing while still signed in: over the page, which stays as it is. */
export function renewDialog(use) {
  const { nodes, first } = waysIn((session) => { dialog.close(); use(session); }, { label: 'New token' });
  const dialog = openDialog('Sign in again', h('p', {}, 'Your place and what you typed stay as they are.'), h('div', { class: 'ways-in' }, nodes));
  if (dialog) first.focus();
}

const GATES = {
  none: ['Sign in', () => [issuerHost ? 'Requests are shown to operators.' : 'Requests are shown to operators. Paste a token from your organisation’s issuer.']],
  ended: ['Signed out', () => ['Your sign-in has ended. Your place and what you typed are kept: sign in to go on.']],
  forbidden: ['No access to the queue', ({ name, roles }) => ['Signed in as ', h('bdi', {}, safeText(name)),
    `, with ${roles.length ? `the role ${roles.join(', ')}` : 'no role'}. Seeing and deciding requests needs the role operator.`]],
};

/** Instead of the page: signed out, or signed in as someone who may not see the queue. */
export function showGate(kind, { session, local, fault, use }) {
  const gate = byId('gate');
  const key = `${kind}:${session?.sub ?? ''}`;
  if (!gate.hidden && gate.dataset.key === key) return;
  gate.dataset.key = key;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  const [title, words] = GATES[kind];
  const { nodes, first } = waysIn(use, { fault });
  gate.replaceChildren(h('div', { class: 'gate-card' },
    h('h2', {}, title), h('p', {}, words(session)),
    local && kind !== 'forbidden' ? h('p', { class: 'muted' }, 'This is a local development stack: the address it printed when it started signs you in.') : '',
    kind === 'forbidden' && isAdmin(session) ? h('p', {}, h('a', { href: '#rules', id: 'gate-rules' }, 'Go to the rules'), ' or ', h('a', { href: '#report', id: 'gate-report' }, 'to the report'), ', which are for administrators.') : '',
    h('div', { class: 'ways-in' }, nodes),
    canDigest ? '' : h('p', { class: 'caution', role: 'note' },
      'This page came over plain http. Here the browser cannot check what you approve, so approving will be held back, and your token can be read on its way. Open the page over https.'),
    h('p', { class: 'muted' }, 'The token stays in the open tabs of this page and is sent only to the API, as a header. Signing out ends it in all of them.')));
  byId('main').hidden = true;
  gate.hidden = false;
  first.focus();
}

export function hideGate() {
  byId('gate').hidden = true;
  byId('gate').replaceChildren();
  delete byId('gate').dataset.key;
  byId('main').hidden = false;
}
