// The entry: holds the page's state, and ties address, API, views and keys together.

import { byId, h, safeText, setAttr } from './dom.js';
import * as api from './api.js';
import { afterDecision, filtered, isPending, listKey, mergePages, neighbour, parseView, viewUrl } from './state.js';
import { canDecide, dropSession, keepSession, restoreSession } from './session.js';
import { drawList, drawNote, listScroll, markCurrent, showRow, tickList } from './list.js';
import * as detailView from './detail.js';
import { createComposer, draftOf, dropDraft, dropDrafts } from './composer.js';
import { announce, hideGate, renewDialog, showGate, showKeys, toast } from './dialogs.js';
import { bindFilters, drawFilters } from './filters.js';
import { letterKeys, listenToKeys } from './keys.js';
import { createLoop } from './live.js';
import { failureWords } from './problems.js';
import { bindTabs, drawTop } from './top.js';
import { now, tick } from './time.js';

const PAGE = 100;
const local = document.querySelector('meta[name="relaytrace-local"]').content === '1';
const narrow = matchMedia('(max-width: 52rem)');

const state = {
  session: null, gate: '', view: parseView(location.search),
  items: [], counts: null, cursor: null, pages: 1, list: 'loading', listError: null, shownKey: '',
  detail: null, detailError: null, cursorId: '', cursorIndex: -1,
  sending: '', wait: 0, decided: new Map(), listTop: 0,
};

const composer = createComposer(detailView.barPlace, { send });
const loop = createLoop(refresh, { pause: () => (state.gate ? Infinity : state.wait), misses: () => api.connection.misses });

// ---- asking -------------------------------------------------------------------------------------------------

async function refresh() {
  if (state.gate) return;
  state.wait = 0;
  const view = state.view;
  const [list] = await Promise.allSettled([loadList(view), view.id ? loadDetail(view.id) : null]);
  if (list.status === 'rejected') noteListError(list.reason, view);
  draw();
}

async function loadList(view) {
  const pages = [];
  let cursor = null;
  do {
    const page = await api.getList(view, cursor, PAGE);
    api.noteAnswer(null);
    pages.push(page);
    cursor = page.next_cursor ?? null;
  } while (cursor && pages.length < state.pages);
  if (listKey(view) !== listKey(state.view)) return;
  const same = state.shownKey === listKey(view);
  const before = new Set(state.items.map((i) => i.request_id));
  // A decision made here is final: an older answer that still shows it as pending is corrected.
  const items = mergePages(pages).map((i) => (state.decided.has(i.request_id) && isPending(i)
    ? { ...i, status: 'decided', outcome: state.decided.get(i.request_id).outcome, cause: 'operator' } : i))
    .filter((i) => view.status !== 'pending' || isPending(i));
  const fresh = same ? items.filter((i) => isPending(i) && !before.has(i.request_id)) : [];
  Object.assign(state, { items, counts: pages[0].counts ?? state.counts, cursor, list: 'ok', listError: null, shownKey: listKey(view) });
  if (fresh.length && view.status !== 'decided') {
    const p1 = fresh.filter((i) => i.priority === 'P1').length;
    announce(`${fresh.length} new ${fresh.length === 1 ? 'request' : 'requests'}${p1 ? `, ${p1} of them P1` : ''}`);
  }
}

function noteListError(error, view) {
  api.noteAnswer(error);
  if (!(error instanceof api.Problem)) { if (!(error instanceof api.Lost)) throw error; return; }
  if (error.status === 403) return closeGate('forbidden');
  if (error.status === 429) { state.wait = Math.max(1, error.retryAfter) * 1000; return; }
  if (error.status === 401 || error.status >= 500 || listKey(view) !== listKey(state.view)) return;
  Object.assign(state, { list: 'error', listError: error, items: [], cursor: null, shownKey: listKey(view) });
  state.wait = 5000;
}

async function loadDetail(id) {
  try {
    const detail = await api.getDetail(id);
    if (id !== state.view.id) return;
    if (state.decided.has(id) && !detail.decision) return;
    if (state.detail?.request_id === id && state.detail.action_digest !== detail.action_digest && composer.close(false)) {
      announce('The action has changed. Read it again before you decide.');
    }
    Object.assign(state, { detail, detailError: null });
  } catch (error) {
    if (id !== state.view.id || error instanceof api.Lost) return;
    if (!(error instanceof api.Problem)) throw error;
    if (error.status === 404 || error.status === 403) Object.assign(state, { detail: null, detailError: error });
    else if (!state.detail && error.status !== 401) state.detailError = error;
  }
}

// ---- deciding -----------------------------------------------------------------------------------------------

async function send(detail, mode, reason) {
  const id = detail.request_id;
  state.sending = id;
  draw();
  let error = null;
  let decision = null;
  try {
    decision = await api.decide(id, { decision: mode, action_digest: detail.action_digest, ...(reason ? { reason } : {}) });
    if (!decision?.outcome) throw new api.Lost('The server’s answer could not be read.');
  } catch (e) { error = e; }
  state.sending = '';
  if (!error) return settle(detail, decision);
  if (error.code === 'already-decided' && error.body.decision) {
    keepDecision(detail, error.body.decision);
    announce('Already decided. Your answer was not recorded.');
  } else {
    composer.update({ error: { message: failureWords(error) } });
    if (!(error instanceof api.Problem)) api.noteAnswer(error);
  }
  draw();
  return loop.now();
}

function keepDecision(detail, decision) {
  state.decided.set(detail.request_id, decision);
  if (state.view.id === detail.request_id) state.detail = { ...detail, status: 'decided', outcome: decision.outcome, decision };
}

function settle(detail, decision) {
  const next = afterDecision(state.items, detail.request_id);
  const place = detailView.hasFocus() ? 'detail' : 'list';
  dropDraft(detail.request_id);
  keepDecision(detail, decision);
  toast(h('strong', {}, decision.outcome === 'approved' ? 'Approved' : 'Rejected'), ' ', h('bdi', {}, safeText(detail.title)));
  if (state.view.status === 'pending') state.items = state.items.filter((i) => i.request_id !== detail.request_id);
  if (state.view.id !== detail.request_id) { draw(); return loop.now(); }
  go({ id: next?.request_id ?? '' }, { replace: true });
  if (next) { state.cursorId = next.request_id; showRow(next.request_id, place === 'list' && !narrow.matches); }
  if (place === 'detail' || narrow.matches) detailView.focusDetail();
  return undefined;
}

// ---- going --------------------------------------------------------------------------------------------------

function go(patch, { replace = false } = {}) {
  const before = state.view;
  state.view = { ...before, ...patch };
  const url = viewUrl(state.view);
  if (url !== viewUrl(before)) {
    if (replace) history.replaceState(history.state, '', url);
    else history.pushState({ inPage: true }, '', url);
  }
  arrive(before);
}

function arrive(before) {
  const { view } = state;
  if (before.id !== view.id) {
    if (!before.id) state.listTop = listScroll.get();
    state.detail = view.id ? api.knownDetail(view.id) : null;
    state.detailError = null;
    if (view.id) state.cursorId = view.id;
  }
  if (listKey(before) !== listKey(view)) {
    Object.assign(state, { list: 'loading', pages: 1, cursorIndex: -1 });
    listScroll.set(0);
  }
  draw();
  if (before.id && !view.id && narrow.matches) { listScroll.set(state.listTop); showRow(state.cursorId, true); }
  loop.now();
}

const open = (id, byKey) => {
  go({ id }, { replace: Boolean(state.view.id) && !narrow.matches });
  if (narrow.matches || byKey) detailView.focusDetail();
};
const back = () => {
  if (narrow.matches && history.state?.inPage && state.view.id) history.back();
  else go({ id: '' });
};

function move(step) {
  const target = neighbour(state.items, state.cursorId, state.cursorIndex, step);
  if (!target) return;
  const inDetail = detailView.hasFocus();
  state.cursorId = target.request_id;
  if (!narrow.matches || state.view.id) go({ id: target.request_id }, { replace: Boolean(state.view.id) });
  else draw();
  showRow(target.request_id, !inDetail && !(narrow.matches && state.view.id));
  if (inDetail) detailView.focusDetail();
}

function escape() {
  const active = document.activeElement;
  if (composer.isOpen() && composer.close(true)) return true;
  if (active?.closest?.('#filters')) { showRow(state.cursorId, true) || active.blur(); return true; }
  if (narrow.matches && state.view.id) { back(); return true; }
  if (detailView.hasFocus()) return showRow(state.cursorId, true);
  return false;
}

// ---- drawing ------------------------------------------------------------------------------------------------

function draw() {
  const { view, session, items, detail } = state;
  if (state.gate) { showGate(state.gate, { session, local, use: signIn }); setAttr(document.body, 'data-gate', '1'); return; }
  setAttr(document.body, 'data-gate', null);
  const at = items.findIndex((i) => i.request_id === state.cursorId);
  if (at >= 0) state.cursorIndex = at;
  setAttr(document.body, 'data-open', view.id ? '1' : null);
  setAttr(document.body, 'data-stale', api.connection.lost ? '1' : null);
  setAttr(byId('list'), 'aria-busy', state.list === 'loading' ? 'true' : null);
  drawList(items, view, state.cursorId, open);
  drawNote({
    status: state.list, error: state.listError, count: items.length, view, more: state.cursor,
    total: items.length, onMore: () => { state.pages += 1; loop.now(); },
    onReset: () => go({ priority: [], agent: '', q: '' }), onRetry: () => loop.now(),
  });
  drawFilters(view, state.counts, items);
  drawDetail();
  const inBar = composer.contains(document.activeElement);
  composer.update({ detail: detail && detail.request_id === view.id ? detail : null, sending: state.sending === detail?.request_id, ...blocks(detail) });
  if (inBar && detail?.decision && detailView.barPlace.hidden) byId('outcome')?.focus();
  drawTop(state, { retry: () => loop.now(), renew: () => renewDialog(signIn) });
}

function drawDetail() {
  const { view, detail, detailError } = state;
  if (!view.id) {
    const n = state.counts?.pending ?? 0;
    return detailView.showPlaceholder('hint', n || filtered(view) ? { title: 'No request is open', text: letterKeys.on ? 'Choose one from the list, or press J.' : 'Choose one from the list.' } : { title: state.list === 'ok' ? 'All clear' : '' });
  }
  if (detail?.request_id === view.id || (detail && detail.request_id === view.id.toLowerCase())) {
    if (detail.request_id !== view.id) { state.view = { ...view, id: detail.request_id }; history.replaceState(history.state, '', viewUrl(state.view)); }
    return detailView.showDetail(detail, { back, draft: draftOf(detail.request_id), me: state.session?.sub });
  }
  if (detailError) return detailView.showPlaceholder('error', detailError.status === 404
    ? { title: 'No such request', text: 'The address may be mistyped, or the request is not one that you may see.', back }
    : { title: detailError.status === 403 ? 'You may not see this request' : 'The request could not be loaded', text: detailError.message, back });
  return detailView.showPlaceholder('loading', { back });
}

/** Why a decision cannot be made now: '' where it can. */
function blocks(detail) {
  const over = detail && isPending(detail) && Date.parse(detail.respond_by) <= now();
  return {
    blocked: !canDecide(state.session) ? 'Deciding needs the role operator, which your token does not carry.'
      : over ? 'Time is over: an answer no longer counts.'
        : api.connection.lost ? 'Decisions wait until the connection is back.' : '',
    approveBlocked: detailView.digestState(detail) === 'mismatch' ? 'The digest does not match the action shown, so it cannot be approved from here.' : '',
  };
}

// ---- signing in and out -------------------------------------------------------------------------------------

function signIn(session) {
  if (state.session && state.session.sub !== session.sub) forget();
  state.session = keepSession(session);
  api.useToken(session.token);
  state.gate = '';
  hideGate();
  if (composer.isOpen()) composer.update({ error: null });
  draw();
  loop.now();
  if (state.view.id) detailView.focusDetail();
}

/** Another person at this page starts with nothing of the last one's. */
function forget() {
  dropDrafts();
  state.decided.clear();
  Object.assign(state, { items: [], counts: null, detail: null, list: 'loading', shownKey: '', cursor: null });
}

function closeGate(kind) {
  if (kind === 'ended') dropSession();
  state.gate = kind;
  draw();
}

/** A fresh page, so that nothing that was shown stays in this tab. */
function signOut() {
  dropSession();
  location.reload();
}

// ---- starting -----------------------------------------------------------------------------------------------

bindFilters({ go, view: () => state.view });
bindTabs(go);
byId('sign-out').addEventListener('click', signOut);
const help = () => showKeys({ on: letterKeys.on, set: (on) => { letterKeys.on = on; } });
byId('show-keys').addEventListener('click', help);
byId('skip').addEventListener('click', (event) => { event.preventDefault(); detailView.focusDetail(); });
detailView.onDigestChecked(() => draw());
addEventListener('popstate', () => { const before = state.view; state.view = parseView(location.search); arrive(before); });
const whenIn = (fn) => (...args) => (state.gate ? false : fn(...args));
listenToKeys({
  move: whenIn(move), help, escape: whenIn(escape),
  approve: whenIn(() => composer.open('approve')), reject: whenIn(() => composer.open('reject')),
  send: whenIn(() => (composer.isOpen() ? composer.trySend() : false)),
  search: whenIn(() => byId('filter-q').select()),
  enter: whenIn(() => (state.view.id ? detailView.focusDetail() : state.cursorId ? open(state.cursorId) : false)),
});
setInterval(() => { if (document.hidden || state.gate) return; tickList(); detailView.tickDetail(); tick(document); if (state.detail) composer.update(blocks(state.detail)); }, 1000);
api.onSignedOut(() => closeGate('ended'));

state.session = restoreSession();
if (state.session) { api.useToken(state.session.token); draw(); loop.now(); } else closeGate('none');
