// Below the rules: what has changed, why (the note), saving; and what to do where somebody else has saved meanwhile.

import { h, isolated, safeText, setAttr, setText } from './dom.js';
import { openDialog } from './dialogs.js';
import { differenceNodes } from './rules-history.js';
import { changeWords } from './rules-merge.js';
import { timeNode } from './time.js';

const MOST_NOTE = 2000;

/** Asks once more before something is lost. */
function ask(title, words, label, act) {
  const dialog = openDialog(title, h('p', {}, words),
    h('div', { class: 'bar-row' }, h('button', { type: 'button', class: 'button reject', onclick: () => { dialog.close(); act(); } }, label)));
  dialog?.querySelector('.bar-row button').focus();
}

/** `save(note)`, `discard()`, `takeTheirs()`, `putOnTop()` and `changed()` (the note) are the area's. */
export function createRulesBar({ save, discard, takeTheirs, putOnTop, changed }) {
  const what = h('p', { class: 'rules-what', role: 'status' });
  const note = h('input', { id: 'rules-note', type: 'text', maxlength: MOST_NOTE, dir: 'auto', autocomplete: 'off', placeholder: 'Why? The history carries it', 'aria-describedby': 'rules-error', 'aria-required': 'true' });
  const error = h('p', { class: 'composer-error', id: 'rules-error', role: 'alert' });
  const button = h('button', { type: 'submit', class: 'button primary', id: 'rules-save' }, 'Save ', h('kbd', {}, 'Ctrl Enter'));
  const undo = h('button', { type: 'button', class: 'quiet', id: 'rules-discard', onclick: () => ask('Discard the changes?', `${what.textContent} Nothing of it is saved.`, 'Discard them', discard) }, 'Discard');
  const conflict = h('div', { class: 'rules-conflict', role: 'alert', hidden: true });
  const form = h('form', { class: 'rules-save', novalidate: true }, what,
    h('div', { class: 'field grow' }, h('label', { class: 'sr', for: 'rules-note' }, 'Note: why the rules are changed'), note), button, undo, error);
  form.addEventListener('submit', (event) => { event.preventDefault(); submit(); });
  note.addEventListener('input', () => { if (note.value.trim()) fault(''); changed(); });
  const element = h('div', { class: 'rules-bar', hidden: true }, conflict, form);
  let [busy, drawn] = [false, ''];

  function fault(words, isNotes = false) {
    error.replaceChildren(...safeText(words));
    setAttr(note, 'aria-invalid', isNotes && words ? 'true' : null);
  }

  function submit() {
    if (busy || element.hidden || button.getAttribute('aria-disabled')) return false;
    if (!note.value.trim()) { fault('Say why: the history will carry it.', true); note.focus(); return true; }
    fault('');
    save(note.value.trim());
    return true;
  }

  function drawConflict(theirs, base) {
    const key = theirs ? `${base.version}:${theirs.version}` : '';
    if (key === drawn) return;
    drawn = key;
    conflict.hidden = !theirs;
    if (!theirs) { conflict.replaceChildren(); return; }
    const place = h('div', { class: 'difference' });
    const see = h('button', { type: 'button', class: 'button small', 'aria-expanded': 'false', onclick: () => {
      const isOpen = see.getAttribute('aria-expanded') === 'true';
      setAttr(see, 'aria-expanded', String(!isOpen));
      place.replaceChildren(isOpen ? '' : differenceNodes(base.rules, theirs.rules));
    } }, 'See what they changed');
    const who = theirs.created_by;
    conflict.replaceChildren(
      h('p', {}, h('strong', {}, who ? isolated(String(who.name || who.id)) : 'Somebody', ` saved version ${theirs.version}`), ' ', timeNode(theirs.created_at), ` while you were changing version ${base.version}`,
        theirs.note ? [': ', h('q', { class: 'reason', dir: 'auto' }, safeText(theirs.note))] : '', '. Nothing of yours is saved yet, and nothing is lost.'),
      h('div', { class: 'bar-row' }, see,
        h('button', { type: 'button', class: 'button small', onclick: putOnTop }, 'Put yours on top'),
        h('button', { type: 'button', class: 'button small reject', onclick: () => ask('Take theirs?', 'Your changes are dropped, and the rules are as they saved them.', 'Take theirs', takeTheirs) }, 'Take theirs')), place);
  }

  return {
    element, submit, fault,
    get note() { return note.value; },
    set note(text) { note.value = text; },
    draw({ isChanged, changes, base, theirs, stop, isSending }) {
      busy = isSending;
      element.hidden = !isChanged && !theirs;
      setText(what, isChanged ? `Not saved: ${changeWords(changes)}.` : '');
      setAttr(button, 'aria-disabled', stop || isSending || theirs ? 'true' : null);
      setAttr(button, 'title', stop || null);
      if (stop) fault(stop);
      else if (error.dataset.stop) fault('');
      setAttr(error, 'data-stop', stop ? '1' : null);
      setText(button.firstChild, isSending ? 'Saving …' : 'Save ');
      drawConflict(theirs, base);
    },
  };
}
