// The bar under a request: a button for each answer that its agent takes, and the form behind the buttons. It draws and
// collects; what was typed is in drafts.js, and app.js sends.

import { h, markedText, setAttr, setText } from './dom.js';
import { createAnswer } from './answer.js';
import { changeDraft, draft as draftOf } from './drafts.js';
import { createReason, NEEDS_REASON, NOTE, REASON } from './reasons.js';
import { ANSWERS, isPending, offered } from './state.js';

/** approves: something runs after it, so it needs a digest that fits and, for P1, the type. */
const MODES = {
  approve: { verb: 'Approve', key: 'A', label: NOTE, note: 'approve', approves: true },
  edit: { verb: 'Edit', submit: 'Approve with changes', key: 'E', label: NOTE, note: 'edit', approves: true, writes: true },
  respond: { verb: 'Respond', key: 'T', writes: true },
  reject: { verb: 'Reject', key: 'R', label: REASON, note: 'reject' },
};
const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
export const key = (k) => h('kbd', { 'aria-hidden': 'true' }, k);
export const sendKey = () => key(isMac ? '⌘↵' : 'Ctrl ↵');

/** `send(detail, body)` sends; `opened()` is called where the form has been opened. */
export function createComposer(place, { send, opened }) {
  let now = { detail: null, blocked: '', approveBlocked: '', stop: () => '', acting: [], myself: true, other: '', sending: false };
  const errors = new Map(); // request_id -> {message, field}
  let openFor = ''; // `${id}:${mode}` that the form was last filled for
  let confirm = null; // the field for a P1's type, where one is asked for

  const why = h('p', { class: 'why', id: 'why', role: 'status' });
  const buttons = Object.fromEntries(ANSWERS.map((mode) => [mode, h('button', {
    type: 'button', class: `button ${mode}`, id: mode, 'aria-describedby': 'why', 'aria-keyshortcuts': MODES[mode].key, onclick: () => open(mode),
  }, MODES[mode].verb, key(MODES[mode].key))]));
  const idle = h('div', { class: 'bar-row' }, ...Object.values(buttons), why);

  const heading = h('h3', { class: 'composer-title', id: 'composer-title' });
  const acting = h('select', { id: 'acting', onchange: () => { changeDraft(id(), { for: acting.value }); errors.delete(id()); draw(); } });
  const actingField = h('div', { class: 'field acting' }, h('label', { for: 'acting' }, 'Answer'), acting);
  const answer = createAnswer({ changed: keepForm });
  const confirmPlace = h('div', { class: 'confirms' });
  const reason = createReason({ id: 'reason', error: 'composer-error', changed: () => { keep(); draw(); } });
  const beside = h('p', { class: 'beside' });
  const error = h('p', { class: 'composer-error', id: 'composer-error', role: 'alert' });
  const submit = h('button', { type: 'submit', class: 'button' });
  const cancel = h('button', { type: 'button', class: 'quiet', onclick: () => close(true) }, 'Cancel', key('Esc'));
  const form = h('form', { class: 'composer', 'aria-labelledby': 'composer-title', novalidate: true, hidden: true },
    heading, actingField, answer.element, confirmPlace, reason.presets, reason.field, error,
    h('div', { class: 'bar-row' }, submit, cancel, beside, reason.count));
  place.append(idle, form);

  form.addEventListener('submit', (event) => { event.preventDefault(); trySend(); });

  const id = () => now.detail?.request_id ?? '';
  const draft = () => draftOf(id());
  const mode = () => draft().mode;
  const keep = () => changeDraft(id(), { ...(MODES[mode()].note && { [MODES[mode()].note]: reason.input.value }), confirm: confirm?.value ?? '' });
  function keepForm(field, text) {
    const { forms, written } = draft();
    changeDraft(id(), { forms: { ...forms, [mode()]: field }, written: { ...written, [mode()]: text } });
    errors.delete(id());
    draw();
  }
  const ready = () => now.detail && isPending(now.detail) && !now.blocked;
  const offers = (one) => offered(now.detail).includes(one);
  /** For whom it is answered: '' for oneself. What was chosen counts as long as it can be chosen. */
  function actingAs() {
    const chosen = draft().for;
    if (now.acting.some((person) => person.id === chosen) || (chosen === '' && now.myself)) return chosen;
    return now.myself || !now.acting.length ? '' : now.acting[0].id;
  }
  /** Why a kind of answer cannot be given: '' where it can. */
  const stopOf = (one) => now.blocked || (MODES[one].approves ? now.approveBlocked : '') || now.stop(one, actingAs());

  function open(next) {
    if (!ready() || !offers(next) || stopOf(next)) return;
    changeDraft(id(), { mode: next });
    errors.delete(id());
    draw();
    if (confirm && !MODES[next].writes) confirm.focus();
    else if (MODES[next].writes) answer.focus();
    else reason.input.focus();
    opened();
  }

  function close(focus) {
    const was = mode();
    if (!was || now.sending) return false;
    changeDraft(id(), { mode: '', confirm: '' });
    errors.delete(id());
    draw();
    if (focus) buttons[was].focus();
    return true;
  }

  /** The body of what was written, as long as its request is still open and nothing was sent meanwhile. */
  async function bodyOf(one) {
    const { verb, writes, note } = MODES[one];
    const [of, text, person] = [id(), reason.text(), actingAs()];
    const body = writes ? await answer.body() : { decision: verb.toLowerCase() };
    if (of !== id() || mode() !== one || now.sending) return null;
    return { ...body, ...(note && text && { reason: text }), ...(person && { for: person }) };
  }

  async function trySend() {
    const one = mode();
    if (!one || now.sending || stopOf(one)) return; // the reason is on screen
    const say = (message, field) => { errors.set(id(), { message, field }); draw(); field?.focus(); };
    if (confirm && confirm.value.trim() !== now.detail.action.type) { say('That is not the action’s type yet.', confirm); return; }
    if (MODES[one].note === 'reject' && !reason.text()) { say(NEEDS_REASON, reason.input); return; }
    errors.delete(id());
    draw();
    const body = await bodyOf(one);
    if (!body) return;
    if (body.fault) say(body.fault);
    else send(now.detail, body);
  }

  /** A P1 that would run: its type has to be typed. */
  function drawConfirm(one) {
    const { priority, action } = now.detail;
    confirm = !MODES[one].approves || priority !== 'P1' ? null
      : h('input', { id: 'confirm-type', type: 'text', autocomplete: 'off', autocapitalize: 'off', autocorrect: 'off', spellcheck: 'false', 'aria-describedby': 'composer-error', oninput: () => { keep(); draw(); } });
    if (confirm) confirm.value = draft().confirm;
    confirmPlace.replaceChildren(confirm ? h('div', { class: 'field' }, h('label', { for: 'confirm-type' }, 'This is P1. Type ', h('code', {}, action.type), ' to confirm'), confirm) : '');
  }

  function fill(one) {
    const { verb, writes, note, label, approves } = MODES[one];
    const hadFocus = place.contains(document.activeElement);
    form.dataset.mode = one;
    reason.input.value = (note && draft()[note]) ?? '';
    heading.replaceChildren(`${verb} `, h('code', {}, now.detail.action?.type ?? ''));
    if (writes) answer.show(now.detail, one, draft().forms[one]);
    else answer.hide();
    drawConfirm(one);
    reason.show({ words: label, isReason: note === 'reject', rows: writes ? 1 : 2 });
    submit.className = `button ${note === 'reject' ? 'reject' : approves ? 'approve' : 'primary'}`;
    if (hadFocus && !place.contains(document.activeElement)) (note ? reason.input : cancel).focus();
  }

  /** As oneself, or for one of those who have let this person decide for them. */
  function drawActing() {
    actingField.hidden = !now.acting.length;
    const options = [...(now.myself ? [['', 'as myself']] : []), ...now.acting.map(({ id: person, name }) => [person, `for ${markedText(name || person)}`])];
    const known = JSON.stringify(options);
    if (acting.dataset.known !== known) {
      acting.dataset.known = known;
      acting.replaceChildren(...options.map(([value, words]) => h('option', { value }, words)));
    }
    if (acting.value !== actingAs()) acting.value = actingAs();
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
    setText(why, blocked || now.approveBlocked || ANSWERS.filter(offers).map(stopOf).find(Boolean) || '');
    if (!one) { openFor = ''; return; }
    if (openFor !== `${id()}:${one}`) { openFor = `${id()}:${one}`; fill(one); }
    drawActing();
    setText(beside, now.other ? `${markedText(now.other)} is answering it, too.` : 'The others see that you are answering.');
    reason.draw();
    const stop = stopOf(one);
    setAttr(submit, 'aria-disabled', sending || stop ? 'true' : null);
    const words = sending ? 'Sending…' : MODES[one].submit ?? MODES[one].verb;
    if (submit.dataset.words !== words) { submit.dataset.words = words; submit.replaceChildren(words, ...(sending ? [] : [sendKey()])); }
    const fault = errors.get(id());
    setText(error, stop || fault?.message || '');
    for (const field of [reason.input, confirm]) if (field) setAttr(field, 'aria-invalid', fault?.field === field ? 'true' : null);
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
