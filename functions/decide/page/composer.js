// Approve and Reject: the bar under a request and the form behind its two buttons. It draws and collects; what was
// typed is in drafts.js, and app.js sends.

import { h, setAttr, setText } from './dom.js';
import { changeDraft, draft as draftOf } from './drafts.js';
import { isPending } from './state.js';

const PRESETS = ['Not what was asked for', 'Wrong amount or target', 'Not enough information', 'Against policy', 'Not now, ask again later'];
const MAX = 2000;

export function createComposer(place, { send, opened }) {
  let now = { detail: null, blocked: '', approveBlocked: '', sending: false };
  const errors = new Map(); // request_id -> {message, field}
  let openFor = ''; // `${id}:${mode}` that the form was last filled for

  const why = h('p', { class: 'why', id: 'why', role: 'status' });
  const key = (k) => h('kbd', { 'aria-hidden': 'true' }, k);
  const approve = h('button', { type: 'button', class: 'button approve', id: 'approve', 'aria-describedby': 'why', 'aria-keyshortcuts': 'A', onclick: () => open('approve') }, 'Approve', key('A'));
  const reject = h('button', { type: 'button', class: 'button reject', id: 'reject', 'aria-describedby': 'why', 'aria-keyshortcuts': 'R', onclick: () => open('reject') }, 'Reject', key('R'));
  const idle = h('div', { class: 'bar-row' }, approve, reject, why);

  const heading = h('h3', { class: 'composer-title' });
  const confirmType = h('code');
  const confirm = h('input', { id: 'confirm-type', type: 'text', autocomplete: 'off', autocapitalize: 'off', autocorrect: 'off', spellcheck: 'false', 'aria-describedby': 'composer-error' });
  const confirmField = h('div', { class: 'field' }, h('label', { for: 'confirm-type' }, 'This is P1. Type ', confirmType, ' to confirm'), confirm);
  const presets = h('div', { class: 'presets', role: 'group', 'aria-label': 'Common reasons' },
    PRESETS.map((text) => h('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', onclick: () => takePreset(text) }, text)));
  const label = h('label', { for: 'reason' });
  const reason = h('textarea', { id: 'reason', rows: '2', maxlength: String(MAX), dir: 'auto', 'aria-describedby': 'composer-error reason-count' });
  const count = h('span', { class: 'char-count', id: 'reason-count' });
  const error = h('p', { class: 'composer-error', id: 'composer-error', role: 'alert' });
  const submit = h('button', { type: 'submit', class: 'button' });
  const cancel = h('button', { type: 'button', class: 'quiet', onclick: () => close(true) }, 'Cancel', key('Esc'));
  const form = h('form', { class: 'composer', 'aria-labelledby': 'composer-title', novalidate: true, hidden: true },
    heading, confirmField, presets, h('div', { class: 'field' }, label, reason), error,
    h('div', { class: 'bar-row' }, submit, cancel, count));
  heading.id = 'composer-title';
  place.append(idle, form);

  form.addEventListener('submit', (event) => { event.preventDefault(); trySend(); });
  reason.addEventListener('input', () => { keep(); draw(); });
  confirm.addEventListener('input', () => { keep(); draw(); });

  const id = () => now.detail?.request_id ?? '';
  const draft = () => draftOf(id());
  const keep = () => changeDraft(id(), { [draft().mode]: reason.value, confirm: confirm.value });
  const ready = () => now.detail && isPending(now.detail) && !now.blocked;

  function open(mode) {
    if (!ready() || (mode === 'approve' && now.approveBlocked)) return;
    changeDraft(id(), { mode });
    errors.delete(id());
    draw();
    const first = mode === 'approve' && now.detail.priority === 'P1' ? confirm : reason;
    first.focus();
    opened();
  }

  function close(focus) {
    if (!draft().mode || now.sending) return false;
    const { mode } = draft();
    changeDraft(id(), { mode: '', confirm: '' });
    errors.delete(id());
    draw();
    if (focus) (mode === 'approve' ? approve : reject).focus();
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

  function trySend() {
    const { mode } = draft();
    if (!mode || now.sending) return;
    if (now.blocked) return; // the reason is on screen
    if (mode === 'approve' && now.approveBlocked) return;
    const text = reason.value.trim();
    const say = (message, field) => { errors.set(id(), { message, field }); draw(); field.focus(); };
    if (mode === 'approve' && now.detail.priority === 'P1' && confirm.value.trim() !== now.detail.action.type) return say('That is not the action’s type yet.', confirm);
    if (mode === 'reject' && !text) return say('A rejection needs a reason: the agent and the trace will carry it.', reason);
    errors.delete(id());
    send(now.detail, mode, text);
  }

  function draw() {
    const { detail, blocked, approveBlocked, sending } = now;
    const pending = detail && isPending(detail);
    place.hidden = !pending;
    if (!pending) {
      if (detail && draft().mode) changeDraft(id(), { mode: '' });
      return;
    }
    const { mode, confirm: typed } = draft();
    const text = draft()[mode] ?? '';
    const hadFocus = place.contains(document.activeElement);
    idle.hidden = Boolean(mode);
    form.hidden = !mode;
    setAttr(approve, 'aria-disabled', blocked || approveBlocked ? 'true' : null);
    setAttr(reject, 'aria-disabled', blocked ? 'true' : null);
    setText(why, blocked || approveBlocked || '');
    if (!mode) { openFor = ''; return; }
    const type = detail.action?.type ?? '';
    if (openFor !== `${id()}:${mode}`) {
      openFor = `${id()}:${mode}`;
      reason.value = text;
      confirm.value = typed;
      heading.replaceChildren(mode === 'approve' ? 'Approve ' : 'Reject ', h('code', {}, type));
      setText(confirmType, type);
      presets.hidden = mode === 'approve';
      setText(label, mode === 'approve' ? 'Note (optional)' : 'Reason (the agent gets it)');
      setAttr(reason, 'aria-required', mode === 'reject' ? 'true' : null);
      submit.className = `button ${mode}`;
      if (hadFocus && !place.contains(document.activeElement)) reason.focus();
    }
    confirmField.hidden = !(mode === 'approve' && detail.priority === 'P1');
    for (const chip of presets.children) setAttr(chip, 'aria-pressed', String(text.split('\n').includes(chip.textContent)));
    const stop = blocked || (mode === 'approve' ? approveBlocked : '');
    setAttr(submit, 'aria-disabled', sending || stop ? 'true' : null);
    const words = sending ? 'Sending…' : mode === 'approve' ? 'Approve' : 'Reject';
    if (submit.dataset.words !== words) { submit.dataset.words = words; submit.replaceChildren(words, ...(sending ? [] : [key(isMac ? '⌘↵' : 'Ctrl ↵')])); }
    const fault = errors.get(id());
    setText(error, stop || fault?.message || '');
    setAttr(reason, 'aria-invalid', fault?.field === reason ? 'true' : null);
    setAttr(confirm, 'aria-invalid', fault?.field === confirm ? 'true' : null);
    setText(count, text.length > MAX - 300 ? `${MAX - text.length} characters left` : '');
  }

  return {
    open, close, trySend,
    isOpen: () => Boolean(now.detail && isPending(now.detail) && draft().mode),
    contains: (el) => place.contains(el),
    /** What became of an answer that was sent; it stays with its request. '' takes it back. */
    fail(request, message) {
      if (message) errors.set(request, { message });
      else errors.delete(request);
      draw();
    },
    /** What the page knows now. */
    update(next) {
      now = { ...now, ...next };
      draw();
    },
  };
}

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
