// One request: what is asked (built once, it never changes), and around it what does change:
// time left, who is waiting, the outcome, the trace. Typed text lives in composer.js, not here.

import { h, byId, copyButton, isolated, safeText, setAttr, setText } from './dom.js';
import { countdown, countdownWords, now, timeNode, urgency, urgencyWord } from './time.js';
import { decisionWords, fate, isFailed, isPending } from './state.js';
import { exactTree, readingTree } from './tree.js';
import { actionBox, changeList, countWords } from './changes.js';
import { differences } from './diff.js';
import { executionNodes } from './execution.js';
import { renderMarkdown } from './markdown.js';
import { actorNodes, agentPresence, traceFoot, traceList } from './trace.js';
import { canDigest, digestOf } from './digest.js';

const pane = byId('detail-pane');
const scroller = h('div', { class: 'detail-scroll' });
const bar = h('div', { class: 'bar' });
const batchBar = h('div', { class: 'bar' }); // in the page while several are answered
pane.append(scroller, bar);
export const barPlace = bar;
export const batchPlace = batchBar;

let shown = null; // {id, digest, erased, detail, parts}
let verdict = { id: '', state: 'unknown' }; // does the digest fit what is drawn? unknown: not computed yet
let onVerdict = () => {};
export function onDigestChecked(fn) { onVerdict = fn; }

/** Why the request cannot be approved from here: '' where the digest fits what is shown, or is being computed. */
export function digestFault(detail) {
  if (verdict.id !== detail?.request_id) return '';
  if (verdict.state === 'erased') return 'The action was erased, so it cannot be approved.';
  if (verdict.state === 'mismatch') return 'The digest does not match the action shown, so it cannot be approved from here.';
  if (verdict.state !== 'unavailable') return '';
  return canDigest ? 'The digest could not be computed, so the request cannot be approved from here.'
    : 'This page came over plain http, where the browser cannot check the digest. Open it over https to approve.';
}
export const detailScroller = scroller;
export const hasFocus = () => pane.contains(document.activeElement);

export function focusDetail() {
  (shown?.parts.title ?? pane).focus({ preventScroll: true });
}

/** While an answer is written, the action that it is about stays in sight. */
export function showAction() {
  const [box, sight] = [scroller.querySelector('.action'), scroller].map((el) => el.getBoundingClientRect());
  if (box.top < sight.top || box.bottom > sight.bottom) scroller.scrollTop += box.top - sight.top;
}

function backLink(back) {
  const link = h('a', { class: 'back', href: '?' }, '← Requests');
  link.addEventListener('click', (event) => { event.preventDefault(); back(); });
  return link;
}

/** Instead of a request: nothing chosen, loading, not found, not allowed. */
export function showPlaceholder(kind, { title, text, action, back } = {}) {
  const key = `${kind}:${title}:${text}`;
  if (scroller.dataset.placeholder === key) return;
  shown = null;
  scroller.dataset.placeholder = key;
  const held = hasFocus();
  scroller.replaceChildren(h('div', { class: 'placeholder', 'data-kind': kind },
    kind === 'hint' || !back ? '' : backLink(back),
    kind === 'loading' ? h('div', { class: 'skeleton', role: 'status', 'aria-label': 'Loading the request' }, h('div'), h('div'), h('div'), h('div')) : '',
    title ? h('h2', { class: 'note-title' }, title) : '', text ? h('p', {}, text) : '', action ?? ''));
  if (held && !hasFocus()) pane.focus({ preventScroll: true });
}

/** Instead of a request: what answers several at once. */
export function showBatch(element) {
  shown = null;
  scroller.dataset.placeholder = 'batch';
  scroller.replaceChildren(element);
  scroller.scrollTop = 0;
  pane.append(batchBar);
}

const section = (name, title, ...body) => h('section', { class: `part ${name}`, 'aria-labelledby': `h-${name}` }, h('h3', { id: `h-${name}` }, title), ...body);

function build(detail, back) {
  const parts = {
    title: h('h2', { class: 'detail-title', id: 'detail-title', tabindex: '-1' }, isolated(detail.title)),
    priority: h('span', { class: 'priority' }), escalated: h('span', { class: 'escalated' }),
    clock: h('span', { class: 'clock', 'aria-hidden': 'true' }), clockWords: h('span', { class: 'sr' }),
    presence: h('span', { class: 'presence' }),
    outcome: h('div', { class: 'outcome', id: 'outcome', tabindex: '-1', hidden: true }),
    check: h('span', { class: 'check' }),
    answered: h('div', { class: 'answered' }), people: h('div'), group: h('div'),
    trace: h('div'),
  };
  const hasContext = detail.context && Object.keys(detail.context).length > 0;
  const article = h('article', { class: 'detail', 'aria-labelledby': 'detail-title' },
    backLink(back),
    h('header', {},
      h('p', { class: 'line' }, parts.priority, parts.escalated, parts.clock, parts.clockWords),
      parts.title,
      h('p', { class: 'facts' },
        h('span', {}, 'asked by ', h('bdi', { class: 'agent' }, safeText(detail.agent_id)), ' ', timeNode(detail.created_at)),
        parts.presence)),
    parts.outcome, parts.answered, parts.people,
    section('action', 'Action',
      detail.erased ? h('p', { class: 'from' }, 'What the agent sent (action, summary and context) was erased. Its digest and its trace stay.') : '',
      actionBox(detail.action),
      h('div', { class: 'digest-line' }, h('span', {}, 'Digest'), h('code', { class: 'digest' }, detail.action_digest), parts.check,
        copyButton('Copy', () => detail.action_digest, { 'aria-label': 'Copy the action digest' }))),
    parts.group,
    detail.summary ? section('summary', 'Summary', h('p', { class: 'from' }, 'written by the agent'), h('div', { class: 'prose', dir: 'auto' }, renderMarkdown(detail.summary))) : '',
    hasContext ? section('context', 'Context', h('p', { class: 'from' }, 'given by the agent'), readingTree(detail.context)) : '',
    section('history', 'Trace', parts.trace),
    h('p', { class: 'ids' }, h('span', {}, 'Request ', h('code', {}, detail.request_id)), ' ', h('span', {}, 'Agent’s key ', h('code', {}, isolated(detail.client_request_key ?? '', {}, true)))));
  return { article, parts };
}

async function checkDigest(detail, check) {
  verdict = { id: detail.request_id, state: 'unknown' };
  const computed = detail.action && await digestOf(detail.action).catch(() => null);
  const state = !detail.action ? 'erased' : computed === null ? 'unavailable' : computed === detail.action_digest ? 'match' : 'mismatch';
  if (!check.isConnected) return; // another request is drawn by now
  verdict = { id: detail.request_id, state };
  setAttr(check, 'data-state', state);
  setText(check, { match: 'matches what is shown', mismatch: 'does NOT match what is shown', unavailable: 'cannot be checked', erased: 'cannot be checked: the action was erased' }[state]);
  onVerdict();
}

/** Draws a request, or only what changed in it. */
export function showDetail(detail, { back, typed, me, people, group, always }) {
  const fresh = !shown || shown.id !== detail.request_id || shown.digest !== detail.action_digest || shown.erased !== Boolean(detail.erased);
  if (fresh) {
    const { article, parts } = build(detail, back);
    const held = hasFocus();
    delete scroller.dataset.placeholder;
    scroller.replaceChildren(article);
    scroller.scrollTop = 0;
    shown = { id: detail.request_id, digest: detail.action_digest, erased: Boolean(detail.erased), detail: null, parts };
    if (held && (!hasFocus() || document.activeElement === pane)) focusDetail();
    checkDigest(detail, parts.check);
  }
  if (shown.detail !== detail || shown.always !== Boolean(always)) {
    const { parts } = shown;
    shown.always = Boolean(always);
    const wasPending = shown.detail && isPending(shown.detail);
    shown.detail = detail;
    setText(parts.priority, detail.priority);
    setAttr(parts.priority, 'data-priority', detail.priority);
    const escalated = isPending(detail) && detail.escalated_at;
    parts.escalated.replaceChildren(...(escalated ? ['escalated ', timeNode(detail.escalated_at)] : []));
    drawOutcome(detail, parts.outcome, { typed, me, wasPending, always });
    drawAnswered(detail, parts.answered);
    parts.trace.replaceChildren(traceList(detail), traceFoot(detail));
  }
  if (people.parentElement !== shown.parts.people) shown.parts.people.replaceChildren(people);
  if (!group.isConnected || group.parentElement !== shown.parts.group) shown.parts.group.replaceChildren(group);
  tickDetail();
}

/** What an operator wrote: an action other than the asked one, beside it; a response. Built once: it never changes. */
function drawAnswered(detail, place) {
  const { decision } = detail;
  if (!decision || place.hasChildNodes()) return;
  if (decision.edited && decision.action) {
    const all = detail.action ? differences(detail.action.arguments, decision.action.arguments) : [];
    const check = h('span', { class: 'check' });
    place.append(section('edited', 'Approved instead', detail.action ? [h('p', { class: 'from' }, `with ${countWords(all.length)}`), changeList(all)] : '',
      h('div', { class: 'sides' },
        h('div', {}, h('h4', {}, 'Asked'), actionBox(detail.action)),
        h('div', {}, h('h4', {}, 'Approved'), actionBox(decision.action))),
      h('div', { class: 'digest-line' }, h('span', {}, 'Digest of what was approved'), h('code', { class: 'digest' }, decision.action_digest), check)));
    digestOf(decision.action).catch(() => null).then((computed) => {
      setAttr(check, 'data-state', computed === decision.action_digest ? 'match' : 'mismatch');
      setText(check, computed === decision.action_digest ? 'matches what is shown' : 'does NOT match what is shown');
    });
  }
  if (decision.outcome === 'responded' && decision.response !== undefined) {
    place.append(section('response', 'Response', h('div', { class: 'action-box' }, exactTree(decision.response))));
  }
}

/** What went wrong after the decision, in the agent's own words where it gave some. */
function failureOf({ delivery_error: error }) {
  if (!error) return 'The decision never reached the agent. An administrator can send it again.';
  const [message, code] = [error.message, error.code].map((text) => (text ? safeText(text) : ''));
  return ['The agent reported a failure', message || code ? ': ' : '.', message, message && code ? [' (', code, ')'] : code];
}

function drawOutcome(detail, place, { typed, me, wasPending, always }) {
  const decision = detail.decision;
  place.hidden = !decision;
  if (!decision) return;
  const byRule = decision.cause === 'policy';
  const words = byRule ? decision.outcome : decisionWords(decision);
  const byPerson = decision.cause === 'operator';
  const failed = isFailed(detail) && decision.outcome === 'approved';
  setAttr(place, 'data-outcome', failed ? 'failed' : byPerson ? decision.outcome : 'other');
  const mine = byPerson && decision.decided_by?.id && decision.decided_by.id === me;
  place.replaceChildren(
    h('p', { class: 'outcome-words' }, h('strong', {}, words[0].toUpperCase() + words.slice(1)),
      decision.cause === 'timeout' ? ' ' : [' by ', mine ? 'you' : actorNodes(decision.decided_by), ' '], timeNode(decision.decided_at)),
    decision.cause === 'timeout' ? h('p', {}, `Nobody answered in time, so its policy ${decision.outcome} it.`) : '',
    byRule ? h('p', {}, 'No person was asked. The reason that the rule gives:') : '',
    executionNodes(detail),
    isFailed(detail) && (detail.delivery_error || detail.execution !== 'failed') ? h('p', { class: 'failure-words', dir: 'auto' }, failureOf(detail)) : '',
    decision.reason ? h('p', { class: 'reason', dir: 'auto' }, safeText(decision.reason)) : '',
    always && byPerson && !detail.erased ? h('button', { type: 'button', class: 'button small always', onclick: () => always(detail) }, 'Always like this …') : '',
    typed && !mine ? h('div', { class: 'kept' }, h('p', {}, 'Your answer was not sent. What you had typed:'),
      h('p', { class: 'kept-text', dir: 'auto' }, typed), copyButton('Copy text', () => typed)) : '');
  if (wasPending) byId('announce').textContent = `This request is now ${words}${decision.decided_by?.name && !mine ? ` by ${decision.decided_by.name}` : ''}.`;
}

/** Once a second: what depends on the time. */
export function tickDetail() {
  if (!shown?.detail) return;
  const { detail, parts } = shown;
  const at = now();
  const pending = isPending(detail);
  const ms = Date.parse(detail.respond_by) - at;
  const level = pending ? urgency(detail, at) : null;
  const word = urgencyWord(level) ? `, ${urgencyWord(level)}` : '';
  setText(parts.clock, pending ? (ms > 0 ? `${countdown(ms)} left${word}` : 'time is over') : '');
  setText(parts.clockWords, pending ? `${countdownWords(ms)}${word}` : '');
  setAttr(parts.clock, 'data-urgency', level);
  setAttr(parts.clock, 'title', `Answers count until ${detail.respond_by}`);
  const presence = agentPresence(detail, at);
  const [failed, done] = [isFailed(detail), detail.delivery?.state === 'acknowledged'];
  const words = detail.delivery_error ? 'agent reported a failure' : failed ? fate(detail) : done ? 'agent has its answer' : presence.text;
  setText(parts.presence, words);
  setAttr(parts.presence, 'data-state', failed ? 'failed' : done ? 'done' : presence.state);
}
