// An answer to several requests in one call: every action in sight, one reason, and what became of each.

import { byId, h, onPlainClick, safeText, setAttr, setText } from './dom.js';
import * as api from './api.js';
import { actionBox } from './changes.js';
import { key, sendKey } from './composer.js';
import { digestOf } from './digest.js';
import { stopOf } from './may.js';
import { failureWords } from './problems.js';
import { createReason, NEEDS_REASON, NOTE, REASON } from './reasons.js';
import { decisionWords, isPending, offered, PLAIN, viewUrl } from './state.js';

const VERBS = { approve: 'Approve', reject: 'Reject' };
const requests = (n) => `${n} ${n === 1 ? 'request' : 'requests'}`;

/** Why a request takes no part in an answer: '' where it does. */
function stopFor(detail, mode, me) {
  if (!isPending(detail)) return 'It is decided already.';
  if (!offered(detail).includes(mode)) return `Its agent does not take “${mode}”.`;
  if (mode === 'approve' && detail.priority === 'P1') return 'A P1 is approved by itself.';
  if (mode === 'approve' && !detail.fits) return detail.action ? 'Its digest does not match what is shown.' : 'Its action was erased.';
  return stopOf(detail, mode, { me, for: '' });
}

/**
 * `me()` is this person's id; `took(detail, verdict)` is told each answer that was recorded, and `answered()`
 * that all are; `leave()` is asked to close it; `closed(wasSent)` is told that it is.
 */
export function createBatch(bar, { me, show, open, took, answered, leave, closed }) {
  let now = null; // {mode, members: [{detail, result}], out: [{detail, why}], sending, sent, blocked}
  const heading = h('h2', { class: 'detail-title', id: 'batch-title', tabindex: '-1' });
  const summary = h('p', { class: 'facts', role: 'status' });
  const list = h('ol', { class: 'group-list batch-list' });
  const outHeading = h('h3', {});
  const out = h('ul', { class: 'group-list batch-out' });
  const back = h('a', { class: 'back', href: '?', onclick: (event) => { event.preventDefault(); leave(); } }, '← Requests');
  const element = h('article', { class: 'detail batch', 'aria-labelledby': 'batch-title' }, back, heading, summary, h('section', { class: 'part' }, list), h('section', { class: 'part' }, outHeading, out));

  const error = h('p', { class: 'composer-error', id: 'batch-error', role: 'alert' });
  const reason = createReason({ id: 'batch-reason', error: 'batch-error', changed: () => { setText(error, ''); reason.draw(); } });
  const submit = h('button', { type: 'submit', class: 'button' });
  const cancel = h('button', { type: 'button', class: 'quiet', onclick: () => leave() });
  const form = h('form', { class: 'batch-form', 'aria-labelledby': 'batch-title', novalidate: true }, reason.presets, reason.field, error, h('div', { class: 'bar-row' }, submit, cancel, reason.count));
  bar.append(form);
  form.addEventListener('submit', (event) => { event.preventDefault(); send(); });

  /** Those whose answer is still to be sent: all at first; after it, those that the server could not take. */
  const due = () => now.members.filter(({ result }) => !result || result.http_status >= 500);

  async function start(mode, items) {
    const mine = { mode, members: [], out: [], sending: false, sent: false, blocked: '', total: items.length };
    now = mine;
    reason.input.value = '';
    reason.show({ words: mode === 'reject' ? REASON : NOTE, isReason: mode === 'reject' });
    setText(error, '');
    list.replaceChildren();
    show(element);
    draw();
    heading.focus({ preventScroll: true });
    const details = await Promise.all(items.map(async ({ request_id: id }) => {
      try {
        const detail = await api.getDetail(id);
        return { ...detail, fits: Boolean(detail.action) && await digestOf(detail.action).catch(() => null) === detail.action_digest };
      } catch (failure) {
        if (!(failure instanceof api.Problem) && !(failure instanceof api.Lost)) throw failure;
        return { request_id: id, failure };
      }
    }));
    if (now !== mine) return;
    for (const [n, detail] of details.entries()) {
      const why = detail.failure ? failureOf(detail.failure) : stopFor(detail, mode, me());
      if (why) now.out.push({ detail: detail.failure ? items[n] : detail, why });
      else now.members.push({ detail, result: null, state: h('p', { class: 'batch-result' }) });
    }
    list.replaceChildren(...now.members.map((member) => card(member.detail, member.state)));
    draw();
    if (now.members.length && document.activeElement === heading && mode === 'reject') reason.input.focus();
  }

  const failureOf = (failure) => (failure instanceof api.Problem ? failure.message : 'It could not be loaded.');

  function link({ request_id: id, title }) {
    return h('a', { href: viewUrl({ ...PLAIN, status: 'all', id }), onclick: onPlainClick(() => close(id)) }, h('bdi', {}, safeText(title)));
  }

  const head = (detail) => h('p', { class: 'group-head' }, h('span', { class: 'priority', 'data-priority': detail.priority }, detail.priority), link(detail), h('span', { class: 'group-state' }, 'asked by ', h('bdi', {}, safeText(detail.agent_id))));
  const card = (detail, state) => h('li', {}, head(detail), actionBox(detail.action), state);

  async function send() {
    if (!now || now.sending || now.blocked || !due().length) return;
    const { mode } = now;
    if (mode === 'reject' && !reason.text()) { setText(error, NEEDS_REASON); reason.input.focus(); return; }
    const [mine, members, text] = [now, due(), reason.text()];
    now.sending = true;
    setText(error, '');
    draw();
    let results = null;
    try {
      results = await api.decideAll(members.map(({ detail }) => ({ request_id: detail.request_id, decision: mode, action_digest: detail.action_digest, ...(text && { reason: text }) })));
    } catch (failure) {
      if (!(failure instanceof api.Problem)) api.noteAnswer(failure);
      if (now === mine) setText(error, failureWords(failure));
    }
    mine.sending = false;
    for (const [n, member] of members.entries()) {
      if (!results) break;
      member.result = results[n];
      const verdict = results[n].decision ?? results[n].vote ?? results[n].problem?.decision;
      if (verdict) took(member.detail, verdict);
    }
    mine.sent ||= Boolean(results);
    if (now !== mine) return;
    draw();
    if (results) answered();
    if (results) { heading.focus({ preventScroll: true }); byId('detail-pane').querySelector('.detail-scroll').scrollTop = 0; }
  }

  /** What became of one: its state for the stylesheet, and words. */
  function outcome({ decision, vote, problem, http_status: status }) {
    if (vote) return ['voted', `Your approval is recorded: ${vote.approvals.given} of ${vote.approvals.required}. It is pending until the others have approved.`];
    if (decision) return [decision.outcome, `${decisionWords(decision)[0].toUpperCase()}${decisionWords(decision).slice(1)}.`];
    const by = problem.decision;
    if (problem.code === 'already-decided' && by) return ['failed', `Your answer was not recorded: it is ${decisionWords(by)} by ${by.decided_by?.name ?? by.decided_by?.id ?? 'another'} already.`];
    return ['failed', failureWords(new api.Problem(status, problem, 0))];
  }

  function draw() {
    if (!now) { bar.remove(); return; }
    const { mode, members, sending, sent, total, blocked } = now;
    const [verb, n] = [VERBS[mode], due().length];
    const isLoading = !members.length && !now.out.length;
    bar.hidden = isLoading;
    for (const { result, state } of members) {
      const [kind, words] = result ? outcome(result) : ['', ''];
      setAttr(state, 'data-result', kind || null);
      setText(state, words);
    }
    const done = members.filter(({ result }) => result && !result.problem);
    setText(heading, sent ? `${done.length} of ${requests(members.length)} answered` : `${verb} ${requests(isLoading ? total : n)}`);
    const votes = done.filter(({ result }) => result.vote).length;
    const agents = new Set(members.map(({ detail }) => detail.agent_id)).size;
    setText(summary, isLoading ? 'Loading their actions…' : sent
      ? [`${mode === 'approve' ? 'Approved' : 'Rejected'}: ${done.length - votes}`, votes ? `recorded as one of several approvals: ${votes}` : '', members.length - done.length ? `not recorded: ${members.length - done.length}` : ''].filter(Boolean).join(' · ')
      : `${[...new Set(members.map(({ detail }) => detail.action?.type ?? 'erased'))].join(', ')} · asked by ${agents} ${agents === 1 ? 'agent' : 'agents'} · read each action before you answer`);
    outHeading.hidden = out.hidden = !now.out.length;
    setText(outHeading, `Left out: ${now.out.length}`);
    if (out.childElementCount !== now.out.length) out.replaceChildren(...now.out.map(({ detail, why }) => h('li', {}, head(detail), h('p', { class: 'batch-result', 'data-result': 'failed' }, why))));
    const isOver = sent && !n;
    for (const part of [reason.presets, reason.field, submit]) part.hidden = isOver || !n || (part === reason.presets && mode !== 'reject');
    reason.draw();
    setAttr(submit, 'class', `button ${mode}`);
    setAttr(submit, 'aria-disabled', sending || blocked ? 'true' : null);
    const words = sending ? 'Sending…' : `${verb} ${n}${sent ? ' again' : ''}`;
    if (submit.dataset.words !== words) { submit.dataset.words = words; submit.replaceChildren(words, ...(sending ? [] : [sendKey()])); }
    if (blocked) setText(error, blocked);
    else if (error.textContent === now.saidBlocked) setText(error, '');
    now.saidBlocked = blocked;
    const leave = isOver || !n ? 'Done' : 'Cancel';
    if (cancel.dataset.words !== leave) { cancel.dataset.words = leave; cancel.replaceChildren(leave, key('Esc')); }
  }

  function close(id) {
    if (!now || now.sending) return false;
    const { sent } = now;
    now = null;
    draw();
    closed(sent);
    if (id) open(id);
    return true;
  }

  return {
    start, close, send,
    isOpen: () => Boolean(now),
    contains: (el) => bar.contains(el),
    /** Why nothing can be sent now: '' where it can. */
    update(blocked) { if (now && now.blocked !== blocked) { now.blocked = blocked; draw(); } },
  };
}
