// The HTTP API as the page uses it: token, conditional requests, problem documents,
// and whether the connection is up. Only what is named by a verb of its own changes anything: decide, claim, reroute, delegate, putRules.

import { apiBase } from './session.js';
import { listQuery } from './state.js';
import { learnClock } from './time.js';
import { Literal, write } from './json.js';

/** An answer that is not a success, with its problem document. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail || body?.title || `The server answered ${status}.`);
    Object.assign(this, { status, body: body ?? {}, code: body?.code ?? '', retryAfter });
  }
}

/** No answer, or none that could be read. */
export class Lost extends Error {}

function parse(text) {
  return JSON.parse(text, (_key, value, extra) =>
    typeof value === 'number' && extra?.source && extra.source !== String(value) ? new Literal(value, extra.source) : value);
}

const cache = new Map(); // path -> {etag, text, data}
const CACHE_SIZE = 80;
let token = null;
let onUnauthenticated = () => {};

export function useToken(value) {
  if (value !== token) cache.clear();
  token = value;
}
export function onSignedOut(fn) { onUnauthenticated = fn; }

async function send(path, isOurs, { method = 'GET', body, timeout = 10_000, keepalive = false, ifMatch, signal } = {}) {
  const control = new AbortController();
  signal?.addEventListener('abort', () => control.abort());
  const timer = setTimeout(() => control.abort(), timeout);
  const used = token;
  const known = method === 'GET' ? cache.get(path) : undefined;
  const headers = { Accept: 'application/json, application/problem+json' };
  if (used) headers.Authorization = `Bearer ${used}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (known?.etag) headers['If-None-Match'] = known.etag;
  if (ifMatch !== undefined) headers['If-Match'] = `"${ifMatch}"`;
  const sentAt = Date.now();
  let response, text;
  try {
    response = await fetch(apiBase() + path, {
      method, headers, body: body === undefined ? undefined : write(body),
      keepalive, cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer', signal: control.signal,
    });
    text = response.status === 304 ? '' : await response.text();
  } catch {
    throw new Lost(control.signal.aborted ? 'The server did not answer in time.' : 'The server cannot be reached.');
  } finally {
    clearTimeout(timer);
  }
  learnClock(response.headers.get('Date'), sentAt, Date.now());
  if (response.status === 304 && known) return known.data;
  if (response.ok) {
    if (known && known.text === text) { known.etag = response.headers.get('ETag'); return known.data; }
    let data = null;
    try { data = parse(text); } catch { /* it is not what was asked for */ }
    if (!isOurs(data)) throw new Lost(STRANGER);
    if (method === 'GET' && used === token) remember(path, { etag: response.headers.get('ETag'), text, data });
    return data;
  }
  let problem = null;
  try { problem = JSON.parse(text); } catch { /* a proxy's page */ }
  const isProblem = typeof problem?.type === 'string' && problem.type.startsWith('urn:relaytrace:problem:');
  if (response.status === 401 && used === token) onUnauthenticated();
  else if (!isProblem && response.status < 500 && response.status !== 429) throw new Lost(STRANGER);
  throw new Problem(response.status, isProblem ? problem : null, Number(response.headers.get('Retry-After')) || 0);
}

const STRANGER = 'What answered is not RelayTrace: a proxy, a sign-in page or a wrong address.';

// Whether an answer is one of this API. What it does not know is left to the views: newer servers say more.
const isText = (value) => typeof value === 'string';
const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const isItem = (item) => isObject(item) && [item.request_id, item.agent_id, item.title, item.priority, item.status, item.action_type, item.respond_by].every(isText);
const isPage = (page) => isObject(page) && Array.isArray(page.items) && page.items.every(isItem) && isObject(page.counts)
  && (!page.next_cursor || (isText(page.next_cursor) && page.items.length > 0));
const isAction = (action) => isObject(action) && isText(action.type) && isObject(action.arguments);
const isDetail = (id) => (detail) => isItem(detail) && detail.request_id === id.toLowerCase()
  && (isAction(detail.action) || (detail.erased === true && detail.action === null)) && isText(detail.action_digest) && isObject(detail.chain);
const isApprovals = (approvals) => isObject(approvals) && Number.isInteger(approvals.required) && Number.isInteger(approvals.given);
/** A decision, or an approval that further ones have to join. */
const isVerdict = (id) => (verdict) => isObject(verdict) && verdict.request_id === id
  && (isText(verdict.outcome) || (verdict.status === 'pending' && isApprovals(verdict.approvals)));
const isResult = (result, id) => isObject(result) && result.request_id === id && Number.isInteger(result.http_status)
  && (isObject(result.problem) || isVerdict(id)(result.decision ?? result.vote));
const isList = (isOne) => (page) => isObject(page) && Array.isArray(page.items) && page.items.every(isOne);
const isPerson = (person) => isObject(person) && isText(person.id);
const isDelegation = (one) => isObject(one) && isText(one.delegation_id) && Array.isArray(one.groups) && isText(one.until);
const isRules = (document) => isObject(document) && Number.isInteger(document.version) && Array.isArray(document.rules);
const isTrial = (page) => isObject(page) && Number.isInteger(page.tried) && isObject(page.counts) && Array.isArray(page.examples)
  && page.examples.every((example) => isObject(example) && isText(example.request_id));
const isReport = isList((line) => isObject(line) && ['asked', 'decided_in_time', 'timed_out', 'cancelled', 'pending'].every((name) => Number.isInteger(line[name])));
const isAnything = () => true; // the status says it all

function remember(path, entry) {
  cache.delete(path);
  cache.set(path, entry);
  if (cache.size > CACHE_SIZE) cache.delete(cache.keys().next().value);
}

const one = (id) => `/v1/hitl/requests/${encodeURIComponent(id)}`;

export const getMe = () => send('/v1/hitl/me', (me) => isObject(me) && isText(me.id) && Array.isArray(me.roles));
export const getList = (view, cursor, limit) => send(`/v1/hitl/requests?${listQuery(view, cursor, limit)}`, isPage);
export const getDetail = (id) => send(one(id), isDetail(id));
export const knownDetail = (id) => cache.get(one(id))?.data ?? null;
export const decide = (id, body) => send(`${one(id)}/decision`, isVerdict(id), { method: 'POST', body, timeout: 15_000 });
/** Several answers, each of another request; resolves to a result for each, in their order. */
export const decideAll = async (decisions) => (await send('/v1/hitl/decisions', (answer) => isObject(answer) && Array.isArray(answer.results)
  && answer.results.length === decisions.length && answer.results.every((result, n) => isResult(result, decisions[n].request_id)), { method: 'POST', body: { decisions }, timeout: 60_000 })).results;
/** A verdict that does not decide yet. */
export const isVote = (verdict) => !verdict.outcome;

export const claim = (id, seconds) => send(`${one(id)}/claim`, isAnything, { method: 'PUT', body: { seconds } });
/** Also while the page goes away. */
export const release = (id) => send(`${one(id)}/claim`, isAnything, { method: 'DELETE', keepalive: true });
export const reroute = (id, body) => send(`${one(id)}/assignment`, isAnything, { method: 'PUT', body });
export const getOperators = async (q) => (await send(`/v1/hitl/operators?${new URLSearchParams({ q, limit: '20' })}`, isList(isPerson))).items;
const delegation = (id) => `/v1/hitl/delegations/${encodeURIComponent(id)}`;
/** Those from and to this person, the newest first; an administrator's are the tenant's, so that their own may be on a later page. */
export async function getDelegations() {
  const items = [];
  for (let cursor = '', pages = 0; pages < 10; pages += 1) {
    const page = await send(`/v1/hitl/delegations?${new URLSearchParams({ limit: '200', ...(cursor && { cursor }) })}`, isList(isDelegation));
    items.push(...page.items);
    cursor = page.next_cursor ?? '';
    if (!cursor) break;
  }
  return items;
}
export const delegate = (id, body) => send(delegation(id), isAnything, { method: 'PUT', body });
export const endDelegation = (id) => send(delegation(id), isAnything, { method: 'DELETE' });
const subscription = (id) => `/v1/hitl/push-subscriptions/${encodeURIComponent(id)}`;
export const getPush = () => send('/v1/hitl/push-subscriptions', (answer) => isObject(answer) && (answer.public_key === null || isText(answer.public_key)));
export const setPush = (id, body) => send(subscription(id), isAnything, { method: 'PUT', body });
/** Also while the page goes away. */
export const endPush = (id) => send(subscription(id), isAnything, { method: 'DELETE', keepalive: true });

const RULES = '/v1/admin/rules';
/** The rules that stand, or a version of them: {version, rules, note, created_at, created_by, …}. */
export const getRules = (version) => send(version === undefined ? RULES : `${RULES}/${version}`, isRules);
/** Saves them in place of this version. */
export const putRules = (version, body) => send(RULES, isRules, { method: 'PUT', body, ifMatch: version, timeout: 30_000 });
export const tryRules = (body, signal) => send(`${RULES}/try`, isTrial, { method: 'POST', body, signal, timeout: 60_000 });
export const suggestRule = (id) => send(`${RULES}/suggest`, isObject, { method: 'POST', body: { request_id: id } });

/** How what was asked in a period was answered: {items}, by what the query says. */
export const getReport = (query) => send(`/v1/admin/reports/sla?${query}`, isReport, { timeout: 30_000 });

/** Whether the server answers. Two misses in a row are a lost connection; one good answer ends it. */
export const connection = { lost: false, why: '', lastGood: 0, misses: 0 };

export function noteAnswer(error) {
  const down = error instanceof Lost || (error instanceof Problem && error.status >= 500);
  if (!down) Object.assign(connection, { lost: false, why: '', misses: 0, lastGood: error ? connection.lastGood : Date.now() });
  else {
    connection.misses += 1;
    connection.why = error.message;
    if (connection.misses >= 2 || navigator.onLine === false) connection.lost = true;
  }
}
