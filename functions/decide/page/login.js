// Signing in at the organisation's issuer: OpenID Connect's authorization code flow with PKCE (RFC 7636), as a public
// client. It is offered where the deployment named a client in the page's meta tags. The access token that comes
// back is the one that the API takes. The place in the page is kept here meanwhile, typed text in drafts.js.

import { canDigest } from './digest.js';

const KEY = 'relaytrace.login';
const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? '';
const issuer = meta('relaytrace-issuer').replace(/\/$/, '');
const client = meta('relaytrace-client');
const here = () => location.origin + location.pathname;

/** The issuer's host, where it can be gone to; '' where tokens are pasted only. */
export const issuerHost = issuer && client ? new URL(issuer).host : '';

const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

async function endpoints() {
  const response = await fetch(`${issuer}/.well-known/openid-configuration`, { credentials: 'omit' });
  const found = await response.json();
  if (!response.ok || found.issuer?.replace(/\/$/, '') !== issuer) throw new Error('it describes another issuer');
  return found;
}

/** Leaves for the issuer. Rejects with words for the person where that is not possible. */
export async function leaveForIssuer() {
  if (!canDigest) throw new Error('Signing in at the issuer needs https: over plain http the browser offers no cryptography.');
  try { await leave(); } catch { throw new Error('The issuer cannot be reached.'); }
}

async function leave() {
  const { authorization_endpoint: authorize } = await endpoints();
  const login = { verifier: random(), state: random(), place: location.search };
  sessionStorage.setItem(KEY, JSON.stringify(login));
  const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(login.verifier)));
  const url = new URL(authorize);
  for (const [name, value] of Object.entries({
    response_type: 'code', client_id: client, redirect_uri: here(), scope: meta('relaytrace-scope') || 'openid profile',
    state: login.state, code_challenge: challenge, code_challenge_method: 'S256',
  })) url.searchParams.set(name, value);
  location.assign(url);
}

/**
 * Back from the issuer: {token}, {error} where it did not work, or null where the page was opened otherwise.
 * Only an answer to a question that this tab asked counts: else a crafted link would sign someone in as another.
 */
export async function backFromIssuer() {
  const answer = new URLSearchParams(location.search);
  if (!answer.has('state') || !(answer.has('code') || answer.has('error'))) return null;
  let login = null;
  try { login = JSON.parse(sessionStorage.getItem(KEY)); } catch { /* as if there were none */ }
  sessionStorage.removeItem(KEY);
  history.replaceState(null, '', location.pathname + (login?.place ?? ''));
  if (!login || login.state !== answer.get('state')) return { error: 'This sign-in was not begun in this tab. Begin again.' };
  if (answer.has('error')) return { error: `The issuer refused: ${answer.get('error_description') || answer.get('error')}` };
  try {
    const { token_endpoint: endpoint } = await endpoints();
    const body = new URLSearchParams({
      grant_type: 'authorization_code', code: answer.get('code'), redirect_uri: here(), client_id: client, code_verifier: login.verifier,
    });
    const response = await fetch(endpoint, { method: 'POST', body, credentials: 'omit' });
    const { access_token: token } = await response.json();
    return response.ok && token ? { token } : { error: 'The issuer gave no token.' };
  } catch {
    return { error: 'The issuer cannot be reached.' };
  }
}
