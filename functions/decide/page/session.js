// The operator's token: where it comes from, where it is kept, and what it says about its holder.
// It is decoded to show a name and a time, never verified here: the server does that.

const KEY = 'relaytrace.token';
const SIGNED_OUT = 'relaytrace.signed-out';
const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? '';

function decode(token) {
  try {
    const part = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims && typeof claims === 'object' && !Array.isArray(claims) ? claims : null;
  } catch {
    return null;
  }
}

/** token -> {token, sub, name, roles, exp (ms or null)}, or null where it is no token. */
export function readToken(text) {
  const token = text.trim().replace(/^Bearer\s+/i, '');
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return null;
  const claims = decode(token);
  if (!claims) return null;
  const sub = String(claims.sub ?? '');
  return {
    token, sub,
    name: String(claims.name || sub || 'Unnamed operator'),
    roles: Array.isArray(claims.roles) ? claims.roles.map(String) : [],
    exp: typeof claims.exp === 'number' ? claims.exp * 1000 : null,
  };
}

/** A token in the fragment is honoured only on a page that the local stack marked as its own;
 *  it leaves the address bar in any case. */
function fromFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  if (!fragment.has('token')) return null;
  history.replaceState(history.state, '', location.pathname + location.search);
  return meta('relaytrace-local') === '1' ? readToken(fragment.get('token')) : null;
}

export function restoreSession() {
  const given = fromFragment();
  if (given) return keepSession(given);
  return readToken(sessionStorage.getItem(KEY) ?? '');
}

export function keepSession(session) {
  sessionStorage.setItem(KEY, session.token);
  sessionStorage.removeItem(SIGNED_OUT);
  return session;
}

/** Signed out by its person: until the next sign-in this tab asks no other for a session. */
export function noteSignedOut() {
  sessionStorage.setItem(SIGNED_OUT, '1');
}
export const wasSignedOut = () => sessionStorage.getItem(SIGNED_OUT) === '1';

export function dropSession() {
  sessionStorage.removeItem(KEY);
}

export const canDecide = (session) => Boolean(session?.roles.includes('operator'));
export const isAdmin = (session) => Boolean(session?.roles.includes('admin'));
export const apiBase = () => meta('relaytrace-api').replace(/\/+$/, '');
