// The entry: holds the page's state, and ties address, API, views and keys together.

import { byId, h, safeText, setAttr } from './dom.js';
import * as api from './api.js';
import { afterDecision, decisionWords, doneWords, filtered, isPending, listKey, neighbour, noFilters, NOT_DONE, parseView, viewUrl } from './state.js';
import { createQueue, orderOf } from './queue.js';
import { canDecide, dropSession, isAdmin, keepSession, noteSignedOut, readToken, restoreSession, wasSignedOut } from './session.js';
import { createTabs } from './tabs.js';
import { drawList, drawNote, listScroll, onListScroll, rowsInSight, showRow, tickList } from './list.js';
import * as detailView from './detail.js';
import { createComposer } from './composer.js';
import { createGroup } from './group.js';
import { createBatch } from './batch.js';
import { createPicks } from './picks.js';
import { createPeople } from './people.js';
import { createClaims } from './claims.js';
import { rerouteDialog } from './reroute.js';
import { createRules } from './rules.js';
import { createReport } from './report.js';
import { createAreas } from './areas.js';
import { delegationsDialog } from './delegations.js';
import { actingFor, claimedByOther, mayMyself, stopOf, TIME_IS_OVER } from './may.js';
import { onNames } from './names.js';
import { dropDraft, dropDrafts, openDrafts, typedText } from './drafts.js';
import { announce, showKeys, showSettings, toast, toastFailure } from './dialogs.js';
import { hideGate, renewDialog, showGate } from './gate.js';
import { checkAlerts } from './alerts.js';
import { backFromIssuer } from './login.js';
import { bindFilters, drawFilters } from './filters.js';
import { letterKeys, listenToKeys } from './keys.js';
import { createLoop } from './live.js';
import { failureWords, refusalWords } from './problems.js';
import { bindTabs, drawTop } from './top.js';
import { dropPush, renewPush, startWorker } from './push.js';
import { now, tick } from './time.js';

const [TOP, MORE] = [100, 200]; // items asked for at once: each second, and while scrolling on
const local = document.querySelector('meta[name="relaytrace-local"]').content === '1';
const narrow = matchMedia('(max-width: 52rem)');
const returned = await backFromIssuer(); // first: it restores the address

const state = {
  session: null, gate: '', gateFault: '', view: parseView(location.search),
  queue: null, items: [], fresh: new Set(), counts: null, list: 'loading', listError: null,
  detail: null, detailError: null, cursorId: '', cursorIndex: -1, show: '',
  sending: new Set(), wait: 0, decided: new Map(), listTop: 0,
};

state.cursorId = state.show = state.view.id;
const me = () => state.session?.id ?? state.session?.sub ?? '';
const composer = createComposer(detailView.barPlace, { send, opened: () => { detailView.showAction(); draw(); } });
const batch = createBatch(detailView.batchPlace, { me, show: detailView.showBatch, open: (id) => open(id, true), took: tookOne, answered: tookAll, leave: leaveBatch, closed: batchClosed });
const picks = createPicks({ answer: openBatch, changed: () => draw() });
const group = createGroup({ open: (id) => open(id, true), answer: openBatch });
const claims = createClaims({ me, changed: () => loop.now() });
const openAny = (id) => { go({ ...noFilters, status: 'all', id }); detailView.focusDetail(); };
const rules = createRules({ open: openAny, arrived: () => draw() });
const areas = createAreas({ rules, report: createReport({ open: openAny, show: go }) });
const people = createPeople({ reroute: openReroute, takeOver: () => claims.takeOver(state.detail) });
const loop = createLoop(refresh, { pause: () => (state.gate ? Infinity : state.wait), misses: () => api.connection.misses });

// ---- asking -------------------------------------------------------------------------------------------------

function newQueue() {
  const { view } = state;
  state.queue = createQueue((cursor) => api.getList(view, cursor, cursor ? MORE : TOP), orderOf(view));
  Object.assign(state, { items: [], list: 'loading', listError: null, cursorIndex: -1 });
}

async function refresh() {
  if (state.gate) return;
  state.wait = 0;
  const { view, queue } = state;
  const [list] = await Promise.allSettled([loadList(view, queue), view.id ? loadDetail(view.id) : null, checkAlerts(pendingP1, open)]);
  if (list.status === 'rejected') noteListError(list.reason, queue);
  draw();
}

const pendingP1 = () => api.getList(parseView('?priority=P1'), null, 200);

async function loadList(view, queue) {
  const first = state.list === 'loading';
  const { counts, fresh } = await queue.refresh(rowsInSight());
  api.noteAnswer(null);
  if (queue !== state.queue) return;
  Object.assign(state, { items: itemsOf(queue, view), counts, list: 'ok', listError: null, fresh: new Set(fresh.map((i) => i.request_id)) });
  const waiting = fresh.filter(isPending);
  if (first || !waiting.length) return;
  const p1 = waiting.filter((i) => i.priority === 'P1').length;
  announce(`${waiting.length} new ${waiting.length === 1 ? 'request' : 'requests'}${p1 ? `, ${p1} of them P1` : ''}`);
}

/** What is listed. A decision made here is final: an older answer that still shows it as pending is corrected. */
function itemsOf(queue, view) {
  if (!state.decided.size) return queue.items;
  const known = queue.items.map((i) => (state.decided.has(i.request_id) && isPending(i)
    ? { ...i, status: 'decided', outcome: state.decided.get(i.request_id).outcome, cause: state.decided.get(i.request_id).cause } : i));
  return view.status === 'pending' ? known.filter(isPending) : known;
}

function noteListError(error, queue) {
  api.noteAnswer(error);
  if (!(error instanceof api.Problem)) { if (!(error instanceof api.Lost)) throw error; return; }
  if (error.status === 403) return closeGate('forbidden');
  if (error.status === 429) { state.wait = Math.max(1, error.retryAfter) * 1000; return; }
  if (error.status === 401 || error.status >= 500 || queue !== state.queue) return;
  newQueue();
  Object.assign(state, { list: 'error', listError: error, wait: 5000 });
}

async function loadDetail(id) {
  try {
    const detail = await api.getDetail(id);
    if (id !== state.view.id) return;
    group.load(detail).then(() => { if (state.view.id === id) draw(); }); // the request is not held up by its group
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

/** Several may be under way; what becomes of one is told at its own request, whichever is open by then. */
async function send(detail, body) {
  const id = detail.request_id;
  state.sending.add(id);
  draw();
  let error = null;
  let decision = null;
  try {
    decision = await api.decide(id, { ...body, action_digest: detail.action_digest });
  } catch (e) { error = e; }
  state.sending.delete(id);
  if (!error) return settle(detail, decision);
  if (error.code === 'already-decided' && error.body.decision) overtaken(detail, error.body.decision);
  else {
    composer.fail(id, failureWords(error), error.body?.errors);
    if (state.view.id !== id) tellElsewhere(detail, NOT_DONE[body.decision], failureWords(error));
    if (!(error instanceof api.Problem)) api.noteAnswer(error);
  }
  draw();
  return loop.now();
}

/** The answer to several at once, in place of the open request. */
function openBatch(mode, items) {
  if (narrow.matches) history.pushState({ inPage: true, batch: true }, '', viewUrl(state.view));
  batch.start(mode, items);
  draw();
}

/** On a phone it is a page of its own, so that the device's way back leads out of it, too. */
function leaveBatch() {
  if (history.state?.batch) history.back();
  else batch.close();
}

/** An answer to one of several was recorded, or another's was before it. */
function tookOne(detail, verdict) {
  if (api.isVote(verdict)) return;
  dropDraft(detail.request_id);
  keepDecision(detail, verdict);
}

function tookAll() {
  state.items = itemsOf(state.queue, state.view);
  draw();
  loop.now();
}

function batchClosed(wasSent) {
  if (wasSent) picks.clear();
  state.items = itemsOf(state.queue, state.view);
  if (wasSent && state.decided.has(state.view.id)) go({ id: '' }, { replace: true });
  draw();
  if (!state.view.id || narrow.matches) showRow(state.cursorId, true);
  else detailView.focusDetail();
  loop.now();
}

function openReroute() {
  const groups = [...(state.session?.groups ?? []), ...state.items.flatMap(({ assigned_to: to }) => to?.groups ?? [])];
  rerouteDialog(state.detail, { groups: [...new Set(groups)], done: () => { toast(h('strong', {}, 'Rerouted')); loop.now(); } });
}

function overtaken(detail, decision) {
  keepDecision(detail, decision);
  state.items = itemsOf(state.queue, state.view);
  if (state.view.id === detail.request_id) return announce('Already decided. Your answer was not recorded.');
  const who = decision.cause === 'operator' && decision.decided_by ? ` by ${decision.decided_by.name || decision.decided_by.id}` : '';
  return tellElsewhere(detail, 'Decided before you:', `It is ${decisionWords(decision)}${who}. Your answer was not recorded.`);
}

const tellElsewhere = (detail, what, words) => toastFailure([h('strong', {}, what), ' ', h('bdi', {}, safeText(detail.title))], words, () => open(detail.request_id, true));

function keepDecision(detail, decision) {
  state.decided.set(detail.request_id, decision);
  if (state.view.id === detail.request_id) state.detail = { ...detail, status: 'decided', outcome: decision.outcome, decision };
}

/** An approval that further ones have to join: the request goes on, this person's part is done. */
function settleVote(detail, { approvals }) {
  if (state.detail?.request_id === detail.request_id) state.detail = { ...state.detail, approvals };
  toast(h('strong', {}, `Approval ${approvals.given} of ${approvals.required}`), ' ', h('bdi', {}, safeText(detail.title)));
}

/** What was decided, as a rule: a draft in the rules area. */
async function always(detail) {
  let rule;
  try { rule = await api.suggestRule(detail.request_id); } catch (error) {
    return toastFailure('No rule could be suggested.', refusalWords(error), () => open(detail.request_id, true));
  }
  return rules.suggest(rule);
}

function settle(detail, decision) {
  const next = afterDecision(state.items, detail.request_id);
  const place = detailView.hasFocus() ? 'detail' : 'list';
  dropDraft(detail.request_id);
  claims.forget(detail.request_id);
  if (api.isVote(decision)) settleVote(detail, decision);
  else {
    keepDecision(detail, decision);
    toast(h('strong', {}, doneWords(decision)), ' ', h('bdi', {}, safeText(detail.title)));
  }
  state.items = itemsOf(state.queue, state.view);
  if (state.view.id !== detail.request_id || (!next && isPending(state.detail))) { draw(); return loop.now(); }
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
  if (url !== viewUrl(before) || location.hash) {
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
  if (before.id !== view.id || listKey(before) !== listKey(view)) batch.close();
  if (listKey(before) !== listKey(view)) {
    picks.clear();
    newQueue();
    listScroll.set(0);
  }
  draw();
  if (before.id && !view.id && narrow.matches) { listScroll.set(state.listTop); showRow(state.cursorId, true); }
  loop.now();
}

const open = (id, byKey) => {
  batch.close();
  go({ id }, { replace: Boolean(state.view.id) && !narrow.matches });
  if (narrow.matches || byKey) detailView.focusDetail();
};
const back = () => {
  if (narrow.matches && history.state?.inPage && state.view.id) history.back();
  else go({ id: '' });
};

/** Where the keys stand: in the list, else where the row was, else where the open request would be. */
function placeOfCursor() {
  if (state.cursorIndex >= 0 || state.detail?.request_id !== state.cursorId) return state.cursorIndex;
  const order = orderOf(state.view);
  const after = state.items.findIndex((item) => order(item) > order(state.detail));
  return after < 0 ? state.items.length : after;
}

/** Selects the request that the keys stand on, or no longer. */
function pick() {
  const item = state.items.find(({ request_id: id }) => id === state.cursorId);
  return Boolean(item) && mayPick() && picks.toggle(item);
}

function move(step) {
  const target = neighbour(state.items, state.cursorId, placeOfCursor(), step);
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
  if (batch.isOpen()) { leaveBatch(); return true; }
  if (composer.isOpen() && composer.close(true)) return true;
  if (active?.closest?.('#filters')) { showRow(state.cursorId, true) || active.blur(); return true; }
  if (narrow.matches && state.view.id) { back(); return true; }
  if (detailView.hasFocus()) return showRow(state.cursorId, true);
  return false;
}

// ---- drawing ------------------------------------------------------------------------------------------------

function draw() {
  const { view, session, items, detail } = state;
  const area = areas.draw({ person: session?.sub ?? '', mayLook: isAdmin(session), mayDecide: canDecide(session), lost: api.connection.lost, isShut: Boolean(state.gate) && state.gate !== 'forbidden' });
  if (state.gate && !area) { showGate(state.gate, { session, local, fault: state.gateFault, use: signIn }); setAttr(document.body, 'data-gate', '1'); return; }
  if (area) hideGate();
  byId('main').hidden = Boolean(area);
  setAttr(document.body, 'data-gate', null);
  const at = items.findIndex((i) => i.request_id === state.cursorId);
  if (at >= 0) state.cursorIndex = at;
  setAttr(document.body, 'data-open', view.id || batch.isOpen() ? '1' : null);
  setAttr(document.body, 'data-stale', api.connection.lost ? '1' : null);
  setAttr(byId('list'), 'aria-busy', state.list === 'loading' ? 'true' : null);
  drawList(items, { view, cursorId: state.cursorId, open, picks: mayPick() ? picks : null, me: me(), fresh: state.fresh, more: state.queue.more });
  picks.draw(items, state.list === 'ok');
  if (state.show && state.show === view.id && at >= 0) { showRow(state.show); state.show = ''; }
  drawNote({
    status: state.list, error: state.listError, view, counts: state.counts,
    onReset: () => go(noFilters), onRetry: () => loop.now(),
  });
  drawFilters(view, state.counts, items, state.queue.more);
  drawDetail();
  const inBar = composer.contains(document.activeElement);
  const shown = detail && detail.request_id === view.id && !batch.isOpen() ? detail : null;
  composer.update({ detail: shown, sending: state.sending.has(detail?.request_id), ...blocks(detail) });
  batch.update(held());
  claims.follow(shown, composer.isOpen());
  if (inBar && detail?.decision && detailView.barPlace.hidden) byId('outcome')?.focus();
  drawTop(state, { retry: () => loop.now(), renew, area, mayLook: isAdmin(session) });
}

const mayPick = () => canDecide(state.session) && state.view.status !== 'decided';

/** Who may ask others: those who may decide it, and administrators. */
const mayReroute = (detail) => Boolean(state.session?.roles.includes('admin')) || (canDecide(state.session) && (mayMyself(detail) || actingFor(detail).length > 0));

function drawDetail() {
  const { view, detail, detailError } = state;
  if (batch.isOpen()) return undefined;
  if (!view.id) {
    const n = state.counts?.pending ?? 0;
    return detailView.showPlaceholder('hint', n || filtered(view) ? { title: 'No request is open', text: letterKeys.on ? 'Choose one from the list, or press J.' : 'Choose one from the list.' } : { title: state.list === 'ok' ? 'All clear' : '' });
  }
  if (detail?.request_id === view.id) {
    group.draw(detail);
    const news = people.news(detail, me());
    if (news) announce(news);
    people.draw(detail, { me: me(), mayReroute: mayReroute(detail), mayRule: isAdmin(state.session) });
    return detailView.showDetail(detail, { back, typed: typedText(detail.request_id), me: me(), people: people.element, group: group.element, always: isAdmin(state.session) ? always : null });
  }
  if (detailError) return detailView.showPlaceholder('error', detailError.status === 404
    ? { title: 'No such request', text: 'The address may be mistyped, or the request is not one that you may see.', back }
    : { title: detailError.status === 403 ? 'You may not see this request' : 'The request could not be loaded', text: detailError.message, back });
  return detailView.showPlaceholder('loading', { back });
}

/** Why nothing can be decided from here now, whatever the request: '' where it can. */
const held = () => (!canDecide(state.session) ? 'Deciding needs the role operator, which your token does not carry.'
  : api.connection.lost ? 'Decisions wait until the connection is back.' : '');

/** Why a decision cannot be made now: '' where it can. */
function blocks(detail) {
  const over = detail && isPending(detail) && Date.parse(detail.respond_by) <= now();
  return {
    blocked: !canDecide(state.session) ? held() : over ? TIME_IS_OVER : held(),
    approveBlocked: detailView.digestFault(detail),
    stop: (answer, person) => (detail ? stopOf(detail, answer, { me: me(), for: person }) : ''),
    acting: detail ? actingFor(detail) : [],
    myself: !detail || mayMyself(detail),
    other: (detail && claimedByOther(detail, me(), now())?.name) ?? '',
  };
}

// ---- signing in and out -------------------------------------------------------------------------------------

function signIn(session) {
  const atGate = Boolean(state.gate);
  if (state.session && state.session.sub !== session.sub) forget();
  state.session = keepSession(session);
  openDrafts(session.sub);
  api.useToken(session.token);
  Object.assign(state, { gate: '', gateFault: '' });
  hideGate();
  tabs.tell();
  if (composer.isOpen()) composer.fail(state.view.id, '');
  draw();
  loop.now();
  learnWhoIam(session);
  if (atGate && state.view.id) detailView.focusDetail();
}

/** What the server reads from the token, which a deployment may have laid out otherwise than the page expects. */
async function learnWhoIam(session) {
  let who;
  try { who = await api.getMe(); } catch { return; } // what the token says to the page has to do
  if (state.session !== session) return;
  state.session = { ...session, id: who.id, name: String(who.name || who.id), roles: who.roles.map(String), groups: (who.groups ?? []).map(String), tenant: String(who.tenant ?? '') };
  draw();
  renewPush(me());
}

/** Another person at this page starts with nothing of the last one's. */
function forget() {
  dropDrafts();
  rules.forget();
  state.decided.clear();
  batch.close();
  picks.clear();
  newQueue();
  Object.assign(state, { counts: null, detail: null });
}

function closeGate(kind, fault = '') {
  if (kind === 'ended') { dropSession(); tabs.refuse(state.session); }
  Object.assign(state, { gate: kind, gateFault: fault });
  draw();
  if (kind === 'ended') tabs.ask(() => !state.gate);
}

const renew = () => renewDialog(signIn);

/** A fresh page, so that nothing that was shown stays in this tab. */
function leave() {
  dropSession();
  dropDrafts();
  noteSignedOut();
  location.reload();
}

function signOut() {
  dropPush();
  tabs.end();
  leave();
}

const lasts = ({ exp }) => exp ?? Infinity;
const tabs = createTabs({
  current: () => state.session,
  wants: (session) => !state.session || (session.sub === state.session.sub && (Boolean(state.gate) || lasts(session) > lasts(state.session))),
  take: (session) => signIn(session),
  leave: () => { if (state.session) leave(); },
});

// ---- starting -----------------------------------------------------------------------------------------------

bindFilters({ go, view: () => state.view });
bindTabs(go, () => state.view);
onListScroll(() => loop.now());
byId('operator').addEventListener('click', () => showSettings(state.session, { signOut, renew, delegations: canDecide(state.session) ? openDelegations : null }));
function openDelegations() { delegationsDialog({ id: me(), groups: state.session.groups ?? [] }); }
const help = () => showKeys({ on: letterKeys.on, set: (on) => { letterKeys.on = on; } });
byId('show-keys').addEventListener('click', help);
byId('skip').addEventListener('click', (event) => { event.preventDefault(); if (areas.isOpen()) areas.focus(); else detailView.focusDetail(); });
detailView.onDigestChecked(() => draw());
onNames(() => draw());
addEventListener('popstate', () => { batch.close(); const before = state.view; state.view = parseView(location.search); arrive(before); });
const whenIn = areas.whenIn(() => state.gate);
// A new link in the same tab, or an area.
addEventListener('hashchange', () => { const given = location.hash.includes('token=') && restoreSession(); if (given) signIn(given); else draw(); });
listenToKeys({
  move: whenIn(move, rules.step), help, escape: whenIn(escape, rules.escape),
  approve: whenIn(() => composer.open('approve')), reject: whenIn(() => composer.open('reject')),
  edit: whenIn(() => composer.open('edit')), respond: whenIn(() => composer.open('respond')),
  pick: whenIn(pick), approvePicked: whenIn(() => picks.go('approve')), rejectPicked: whenIn(() => picks.go('reject')),
  send: whenIn(() => (batch.isOpen() ? batch.send() : composer.isOpen() ? composer.trySend() : false), rules.save),
  search: whenIn(() => byId('filter-q').select(), rules.search),
  enter: whenIn(() => (state.view.id ? detailView.focusDetail() : state.cursorId ? open(state.cursorId) : false)),
});
setInterval(() => { if (document.hidden || state.gate) return; tickList(); detailView.tickDetail(); tick(document); if (state.detail) composer.update(blocks(state.detail)); }, 1000);
api.onSignedOut(() => closeGate('ended'));
startWorker((id) => open(id, true));

newQueue();
const session = returned?.token ? readToken(returned.token) : restoreSession();
if (session) signIn(session);
else if (!wasSignedOut()) await tabs.ask(() => state.session);
if (state.session) {
  if (returned?.error) toast(returned.error);
} else closeGate('none', returned?.error ?? (returned ? 'The issuer gave a token that this page cannot read.' : ''));
