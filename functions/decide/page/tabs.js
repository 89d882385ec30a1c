// One sign-in for all open tabs of this page: a new tab asks those that are open for the token, and signing out ends
// it in all of them. The token is handed over in memory (BroadcastChannel: same origin, same browser profile), so no
// store outlives the last tab. Tabs of different APIs do not hear each other.

import { apiBase, readToken } from './session.js';

const PATIENCE = 250; // ms that a new tab waits for another's answer before it asks to sign in

/**
 * `current()` is this tab's session or null; `wants()` says whether this tab would take another's; `take` is given one
 * that it may want; `leave` is called where another tab signed out.
 */
export function createTabs({ current, wants, take, leave }) {
  const channel = new BroadcastChannel(`relaytrace.session ${apiBase() || location.origin}`);
  const refused = new Set(); // tokens that the server did not take
  const isAlive = (session) => session && !refused.has(session.token) && (!session.exp || session.exp > Date.now());
  const tell = () => { if (isAlive(current())) channel.postMessage({ kind: 'session', token: current().token }); };

  channel.addEventListener('message', ({ data }) => {
    if (data?.kind === 'ask') return tell();
    if (data?.kind === 'left') return leave();
    const session = data?.kind === 'session' && readToken(String(data.token));
    if (isAlive(session) && session.token !== current()?.token && wants(session)) take(session);
    return undefined;
  });

  return {
    /** Signed in here, or with a newer token: told to those that have none or an older one. */
    tell,
    /** Signed out here. */
    end() { channel.postMessage({ kind: 'left' }); },
    refuse(session) { if (session) refused.add(session.token); },
    /** Asks the others; resolves when one has answered, or none did. */
    ask(answered) {
      channel.postMessage({ kind: 'ask' });
      return new Promise((done) => {
        const end = Date.now() + PATIENCE;
        const look = () => (answered() || Date.now() > end ? done() : setTimeout(look, 10));
        look();
      });
    },
  };
}
