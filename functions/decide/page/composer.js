// The bar under a request: a button for each answer that its agent takes, and the form behind the buttons. It draws and
// collects; what was typed is in drafts.js, and app.js sends.

import { h, safeText, setAttr, setText } from './dom.js';
import { actionBox } from './changes.js';
import { createAnswer } from './answer.js';
import { changeDraft, draft as draftOf } from './drafts.js';
import { isPending, offered } from './state.js';

const PRESETS = ['Not what was asked for', 'Wrong amount or target', 'Not enough information', 'Against policy', 'Not now, ask again later'];
const MAX = 2000;
const NOTE = 'Note (optional)';
const REASON = 'Reason (the agent gets it)';
/** approves: something runs after it, so it needs a digest that fits and, for P1, the type; `all`: of a whole group. */
const MODES = {
  approve: { verb: 'Approve', key: 'A', label: NOTE, note: 'approve', approves: true },
  edit: { verb: 'Edit', submit: 'Approve with changes', key: 'E', label: NOTE, note: 'edit', approves: true, writes: true },
  respond: { verb: 'Respond', key: 'T', writes: true },
  reject: { verb: 'Reject', key: 'R', label: REASON, note: 'reject' },
  approveAll: { verb: 'Approve all', of: 'approve', label: NOTE, note: 'approve', approves: true, all: true },
  rejectAll: { verb: 'Reject all', of: 'reject', label: REASON, note: 'reject', all: true },
};
const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
const key = (k) => h('kbd', { 'aria-hidden': 'true' }, k);

/** `send(detail, body)` and `sendAll(details, body)` send; `members(detail, mode)` are the requests that an answer to all is for. */
export function createComposer(place, { send, sendAll, members, opened }) {
  let now = { detail: null, blocked: '', approveBlocked: '', may: null, sending: false };
  const errors = new Map(); // request_id -> {message, field}
  let openFor = ''; // `${id}:${mode}` that the form was last filled for
  let listed = []; // what an answer to all is for: the requests whose actions the form shows, and no others
  let confirms = []; // [{input, type}] of the P1s to be approved

  const why = h('p', { class: 'why', id: 'why', role: 'status' });
  const buttons = Object.fromEntries(['approve', 'edit', 'respond', 'reject'].map((mode) => [mode, h('button', {
    type: 'button', class: `button ${mode}`, id: mode, 'aria-describedby': 'why', 'aria-keyshortcuts': MODES[mode].key, onclick: () => open(mode),
  }, MODES[mode].verb, key(MODES[mode].key))]));
  const idle = h('div', { class: 'bar-row' }, ...Object.values(buttons), why);

  const heading = h('h3', { class: 'composer-title', id: 'composer-title' });
  const actions = h('div', { class: 'all-actions', tabindex: '0', role: 'group', 'aria-label': 'The actions' });
  const answer = createAnswer({ changed: keepForm });
  const confirmPlace = h('div', { class: 'confirms' });
  const presets = h('div', { class: 'presets', role: 'group', 'aria-label': 'Common reasons' },
    PRESETS.map((text) => h('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', onclick: () => takePreset(text) }, text)));
  const label = h('label', { for: 'reason' });
  const reason = h('textarea', { id: 'reason', rows: '2', maxlength: String(MAX), dir: 'auto', 'aria-describedby': 'composer-error reason-count' });
  const reasonField = h('div', { class: 'field' }, label, reason);
  const count = h('span', { class: 'char-count', id: 'reason-count' });
  const error = h('p', { class: 'composer-error', id: 'composer-error', role: 'alert' });
  const submit = h('button', { type: 'submit', class: 'button' });
  const cancel = h('button', { type: 'button', class: 'quiet', onclick: () => close(true) }, 'Cancel', key('Esc'));
  const form = h('form', { class: 'composer', 'aria-labelledby': 'composer-title', novalidate: true, hidden: true },
    heading, actions, answer.element, confirmPlace, presets, reasonField, error,
    h('div', { class: 'bar-row' }, submit, cancel, count));
  place.append(idle, form);

  form.addEventListener('submit', (event) => { event.preventDefault(); trySend(); });
  reason.addEventListener('input', () => { keep(); draw(); });

  const id = () => now.detail?.request_id ?? '';
  const draft = () => draftOf(id());
  const mode = () => draft().mode;
  const keep = () => changeDraft(id(), { ...(MODES[mode()].note && { [MODES[mode()].note]: reason.value }), confirm: confirms.length === 1 ? confirms[0].input.value : '' });
  function keepForm(field, text) {
    const { forms, written } = draft();
    changeDraft(id(), { forms: { ...forms, [mode()]: field }, written: { ...written, [mode()]: text } });
    errors.delete(id());
    draw();
  }
  const ready = () => now.detail && isPending(now.detail) && !now.blocked;
  const offers = (one) => offered(now.detail).includes(one);
  /** Why a kind of answer cannot be given: '' where it can. */
  const stopOf = (one) => now.blocked || (MODES[one].approves && !MODES[one].all ? now.approveBlocked : '')
    || (now.may && now.may.length && !now.may.includes(MODES[one].of ?? one) ? `You may not ${MODES[one].of ?? one} this request.` : '');

  function open(next) {
    if (!ready() || !offers(MODES[next].of ?? next) || stopOf(next) || (MODES[next].all && !members(now.detail, next).length)) return;
    changeDraft(id(), { mode: next });
    errors.delete(id());
    draw();
    if (confirms.length && !MODES[next].writes) confirms[0].input.focus();
    else if (MODES[next].writes) answer.focus();
    else reason.focus();
    opened();
  }

  function close(focus) {
    const was = mode();
    if (!was || now.sending) return false;
    changeDraft(id(), { mode: '', confirm: '' });
    errors.delete(id());
    draw();
    if (focus) (buttons[MODES[was].of ?? was]).focus();
    return true;
  }

  function takePreset(text) {
    const typed = reason.value.trim();
    const known = PRESETS.includes(typed) || !typed;
    reason.value = known ? (typed === text ? '' : text) : `${reason.value.trimEnd()}\n${text}`.slice(0, MAX);
    keep();
    draw();
    reason.focus();
  }

  /** The body of what was written, as long as its request is still open and nothing was sent meanwhile. */
  async function bodyOf(one) {
    const { verb, of, writes } = MODES[one];
    const [of_, text] = [id(), reason.value.trim()];
    const body = writes ? await answer.body() : { decision: of ?? verb.toLowerCase() };
    if (of_ !== id() || mode() !== one || now.sending) return null;
    return { ...body, ...(MODES[one].note && text && { reason: text }) };
  }

  async function trySend() {
    const one = mode();
    if (!one || now.sending || stopOf(one)) return; // the reason is on screen
    const say = (message, field) => { errors.set(id(), { message, field }); draw(); field?.focus(); };
    const unsure = confirms.find(({ input, type }) => input.value.trim() !== type);
    if (unsure) { say('That is not the action’s type yet.', unsure.input); return; }
    if (MODES[one].note === 'reject' && !reason.value.trim()) { say('A rejection needs a reason: the agent and the trace will carry it.', reason); return; }
    errors.delete(id());
    draw();
    const body = await bodyOf(one);
    if (!body) return;
    if (body.fault) { say(body.fault); return; }
    if (MODES[one].all) sendAll(now.detail, listed, body);
    else send(now.detail, body);
  }

  /** One field for each P1 that would run: its type has to be typed. */
  function drawConfirms(one) {
    const all = !MODES[one].approves ? [] : (MODES[one].all ? listed : [now.detail]).filter(({ priority }) => priority === 'P1');
    confirms = all.map(({ action, title }, n) => {
      const fieldId = n ? `confirm-type-${n + 1}` : 'confirm-type';
      const input = h('input', { id: fieldId, type: 'text', autocomplete: 'off', autocapitalize: 'off', autocorrect: 'off', spellcheck: 'false', 'aria-describedby': 'composer-error', oninput: () => { keep(); draw(); } });
      const what = all.length > 1 ? ['“', h('bdi', {}, safeText(title)), '” is P1.'] : MODES[one].all ? ['“', h('bdi', {}, safeText(title)), '” is P1.'] : 'This is P1.';
      return { input, type: action.type, field: h('div', { class: 'field' }, h('label', { for: fieldId }, what, ' Type ', h('code', {}, action.type), ' to confirm'), input) };
    });
    if (confirms.length === 1 && !MODES[one].all) confirms[0].input.value = draft().confirm;
    confirmPlace.replaceChildren(...confirms.map(({ field }) => field));
  }

  function fill(one) {
    const { verb, all, writes, note } = MODES[one];
    const hadFocus = place.contains(document.activeElement);
    listed = all ? members(now.detail, one) : [];
    form.dataset.mode = one;
    reason.value = (note && draft()[note]) ?? '';
    heading.replaceChildren(`${verb} `, all ? `${listed.length} requests` : h('code', {}, now.detail.action?.type ?? ''));
    actions.hidden = !all;
    actions.replaceChildren(...listed.map((detail) => h('div', {}, h('p', { class: 'all-title' }, h('bdi', {}, safeText(detail.title))), actionBox(detail.action))));
    if (writes) answer.show(now.detail, one, draft().forms[one]);
    else answer.hide();
    drawConfirms(one);
    presets.hidden = note !== 'reject';
    reasonField.hidden = !note;
    setText(label, MODES[one].label ?? '');
    setAttr(reason, 'rows', writes ? '1' : '2');
    setAttr(reason, 'aria-required', note === 'reject' ? 'true' : null);
    submit.className = `button ${note === 'reject' ? 'reject' : MODES[one].approves ? 'approve' : 'primary'}`;
    if (hadFocus && !place.contains(document.activeElement)) (note ? reason : cancel).focus();
  }

  function draw() {
    const { detail, blocked, sending } = now;
    const pending = detail && isPending(detail);
    place.hidden = !pending;
    if (!pending) {
      openFor = '';
      if (detail && mode()) changeDraft(id(), { mode: '' });
      return;
    }
    const one = mode();
    idle.hidden = Boolean(one);
    form.hidden = !one;
    for (const [name, button] of Object.entries(buttons)) {
      button.hidden = !offers(name);
      setAttr(button, 'aria-disabled', stopOf(name) ? 'true' : null);
    }
    setText(why, blocked || now.approveBlocked || ['approve', 'edit', 'respond', 'reject'].filter(offers).map(stopOf).find(Boolean) || '');
    if (!one) { openFor = ''; return; }
    if (openFor !== `${id()}:${one}`) { openFor = `${id()}:${one}`; fill(one); }
    const text = reason.value;
    for (const chip of presets.children) setAttr(chip, 'aria-pressed', String(text.split('\n').includes(chip.textContent)));
    const stop = stopOf(one);
    setAttr(submit, 'aria-disabled', sending || stop ? 'true' : null);
    const words = sending ? 'Sending…' : MODES[one].submit ?? MODES[one].verb;
    if (submit.dataset.words !== words) { submit.dataset.words = words; submit.replaceChildren(words, ...(sending ? [] : [key(isMac ? '⌘↵' : 'Ctrl ↵')])); }
    const fault = errors.get(id());
    setText(error, stop || fault?.message || '');
    for (const field of [reason, ...confirms.map(({ input }) => input)]) setAttr(field, 'aria-invalid', fault?.field === field ? 'true' : null);
    setText(count, MODES[one].note && text.length > MAX - 300 ? `${MAX - text.length} characters left` : '');
  }

  return {
    open, close, trySend,
    isOpen: () => Boolean(now.detail && isPending(now.detail) && mode()),
    contains: (el) => place.contains(el),
    /** What became of an answer that was sent; it stays with its request. '' takes it back. `faults`: of its fields. */
    fail(request, message, faults) {
      if (message) errors.set(request, { message });
      else errors.delete(request);
      if (faults && request === id() && MODES[mode()]?.writes && answer.tell(faults)) errors.set(request, { message: 'The server refused the answer, nothing was recorded: see the marked fields.' });
      draw();
    },
    /** What the page knows now. */
    update(next) {
      now = { ...now, ...next };
      draw();
    },
  };
}
