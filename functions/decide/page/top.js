// The page's edge: operator, tabs with the count of what waits, connection, banners, title and icon.

import { byId, onPlainClick, setAttr, setText } from './dom.js';
import { connection } from './api.js';
import { atLeast, forTab, noFilters, viewUrl } from './state.js';
import { now } from './time.js';
import { banner } from './dialogs.js';

const EXPIRY_WARNING = 300_000; // ms before a token ends
let badge = -1;
const clock = (ms) => new Date(ms).toLocaleTimeString();

const views = () => byId('tabs').querySelectorAll('[data-status]');

/** `area`: rules or report where it is looked at; `mayLook`: this person may look at them. */
export function drawTop({ session, counts, view }, { retry, renew, area, mayLook }) {
  setText(byId('operator'), session?.name ?? '');
  setText(byId('pending-count'), counts ? atLeast(counts.pending, counts) : '');
  for (const name of ['rules', 'report']) {
    byId(`${name}-tab`).hidden = !mayLook;
    setAttr(byId(`${name}-tab`), 'aria-current', area === name ? 'page' : null);
  }
  for (const tab of views()) {
    setAttr(tab, 'aria-current', !area && tab.dataset.status === view.status ? 'page' : null);
    setAttr(tab, 'href', viewUrl(forTab(view, tab.dataset.status)));
  }
  const { lost, why, lastGood } = connection;
  setText(byId('link-state'), lost ? 'Offline' : 'Live');
  setAttr(byId('link-state'), 'data-state', lost ? 'lost' : 'live');
  const since = lastGood ? ` What you see is from ${clock(lastGood)}.` : '';
  banner('connection', lost ? `${why}${since} Nothing can be decided until the connection is back; the page keeps trying.` : '',
    { kind: 'bad', action: 'Try now', onAction: retry });
  const ending = session?.exp && session.exp - now() < EXPIRY_WARNING;
  banner('expiry', ending ? `Your sign-in ends at ${clock(session.exp)}.` : '', { kind: 'warn', action: 'Sign in again', onAction: renew });
  const waiting = counts?.pending ?? 0;
  document.title = `${waiting ? `(${atLeast(waiting, counts)}) ` : ''}RelayTrace`;
  setAttr(document.querySelector('link[rel=icon]'), 'href', `page/${waiting ? `waiting-${waiting > 9 ? 'many' : waiting}` : 'favicon'}.svg`);
  if (waiting !== badge) { badge = waiting; navigator.setAppBadge?.(waiting).catch(() => {}); } // of an installed page
}

/** Links to views; a plain click changes the view without loading the page again. */
export function bindTabs(go, view) {
  document.querySelector('.mark a').addEventListener('click', onPlainClick(() => go({ ...noFilters, status: 'pending', id: '' })));
  for (const tab of views()) {
    tab.addEventListener('click', onPlainClick(() => go(forTab(view(), tab.dataset.status))));
  }
}
