// The rules: their list, the chosen one as a form, beside it the text, the trial and the history; for administrators only.
// What is changed is a draft until it is saved, and stays while one looks at something else.

import { byId, h, setAttr, setText } from './dom.js';
import * as api from './api.js';
import { announce, toast } from './dialogs.js';
import { refusalWords } from './problems.js';
import { createRulesBar } from './rules-bar.js';
import { createRuleForm } from './rules-form.js';
import { createFrame } from './rules-frame.js';
import { createHistory } from './rules-history.js';
import { keepDraft, keptDraft } from './rules-keep.js';
import { countsOf, createRuleList } from './rules-list.js';
import { areSame, isSameDocument } from './rules-merge.js';
import { createModel } from './rules-model.js';
import { createRulePanels } from './rules-panels.js';
import { createPlace, named } from './rules-place.js';
import { createRuleText } from './rules-text.js';
import { createTry } from './rules-try.js';
import { nameOf, ruleWords } from './rules-words.js';

const EVERY = 15_000; // ms after which the counts, and whether somebody else has saved, are asked for again
const NEW_RULE = { name: 'New rule', mode: 'shadow', match: {}, then: { ask: {} } };
const WHY = { 403: 'Only administrators may see the rules.', 404: 'The administrators’ routes are not served at this address. Open the page where they are.' };

/** `open(id)` goes to a request, `arrived()` is called where the address has come here. */
export function createRules({ open, arrived }) {
  const model = createModel();
  const place = createPlace();
  const { narrow } = place;
  let [me, isOpen, load, failure, theirs, isSending, isLost, drawn] = ['', false, 'none', '', null, false, false, ''];

  const list = createRuleList({ choose: (key, byKey) => choose(key, byKey), move });
  const form = createRuleForm({ change: (rule, path) => { model.set(model.selected, rule, path); edited(); } });
  const text = createRuleText({
    take(value, isWhole) { if (isWhole) model.setAll(value); else model.set(model.selected, value); edited(); },
    unreadable(fault) { const was = model.unreadable; model.unreadable = fault; if (was || fault) redraw(); },
  });
  const trial = createTry({ draft: () => ({ rules: model.rules(), rule: model.entry()?.rule ?? null, sent: model.entries, key: model.selected, text: draftText() }), refused: tell, open: leaveFor });
  const history_ = createHistory({ draft: () => model.rules(), restore });
  const bar = createRulesBar({ save, discard, takeTheirs: discard, putOnTop, changed: keep });
  const panels = createRulePanels({ text, trial, history: history_, shown: (name) => { if (name === 'try') trial.follow(); if (name === 'history') history_.show(model.base?.version ?? 0); } });

  const frame = createFrame({
    add, duplicate, remove, openPane, leavePane, find: redraw, retry: () => ensure(), move: (step) => move(model.selected, step),
    restore() { if (!mayLeaveText()) return; model.restore(); edited(); openPane(); list.show(model.selected, true); },
  }, { list, form, panels, bar });

  // ---- loading
  let loading = null;
  let turn = 0; // another one after each saving and each person: an answer to what was asked before says nothing any more
  const ensure = () => {
    if (load === 'ok' || loading) return loading;
    const mine = fetchRules().finally(() => { if (loading === mine) loading = null; });
    loading = mine;
    return mine;
  };

  async function fetchRules() {
    load = load === 'ok' ? 'ok' : 'loading';
    const mine = turn;
    let document;
    try { document = await api.getRules(); if (mine !== turn) return null; api.noteAnswer(null); } catch (error) {
      if (mine !== turn) return null;
      if (load !== 'ok') { [load, failure] = ['error', WHY[error.status] ?? error.message]; }
      return redraw();
    }
    if (load !== 'ok') return begin(document);
    if (isSameDocument(document, model.base)) model.refresh(document);
    else if (!isSending) meet(document);
    return redraw();
  }

  /** The first answer: with what this person left here before a reload. */
  async function begin(document) {
    const mine = turn;
    model.load(document);
    const kept = keptDraft(me);
    if (kept) {
      try {
        if (!isSameDocument(kept, document)) {
          const base = kept.version ? await api.getRules(kept.version) : { version: 0, rules: [] };
          if (mine !== turn) return;
          [model.base, theirs] = [base, document];
        }
      } catch { if (mine !== turn) return; theirs = null; }
      model.setAll(kept.rules);
      bar.note = String(kept.note ?? '');
    }
    load = 'ok';
    follow(true);
    redraw();
  }

  /** Somebody else has saved. */
  function meet(document) {
    if (!model.unreadable && (!model.isChanged() || areSame(document.rules, model.rules()))) {
      model.load(document);
      theirs = null;
      announce(`Version ${document.version} of the rules is in force.`);
    } else theirs = document;
  }

  // ---- changing
  const texts = new WeakMap();
  let drafts = 0;
  /** Another text for each other draft. */
  function draftText() {
    if (!texts.has(model.entries)) { drafts += 1; texts.set(model.entries, `${drafts}`); }
    return texts.get(model.entries);
  }
  let keeping = 0;
  function keep() {
    clearTimeout(keeping);
    keeping = setTimeout(() => { if (load === 'ok') keepDraft(me, model.isChanged() ? { version: model.base.version, created_at: model.base.created_at, rules: model.rules(), note: bar.note } : null); }, 300);
  }
  function edited() { keep(); redraw(); }

  /** Whether another rule may be shown: not while what is typed cannot be read, for it would be lost. */
  function mayLeaveText() {
    text.settle();
    if (!model.unreadable) return true;
    announce('The text cannot be read yet: mend it, or go back to what could be read last.');
    openPane();
    panels.show('text');
    text.focus();
    return false;
  }
  function choose(key, byKey = false) {
    text.settle();
    if (key !== model.selected && !mayLeaveText()) return;
    model.selected = key;
    if (!byKey) openPane();
    redraw();
    list.show(key, byKey);
    if (narrow.matches && !byKey) frame.title.focus();
  }
  function openPane() { place.openPane(); redraw(); }
  function leavePane() {
    const key = model.selected;
    if (place.leavePane()) redraw();
    requestAnimationFrame(() => list.show(key, true));
  }

  function add() {
    if (!mayLeaveText()) return;
    frame.clearQuery();
    model.add(NEW_RULE, model.selected ? model.place() + 1 : model.entries.length);
    edited();
    openPane();
    list.show(model.selected);
    form.focus();
  }
  function duplicate() { if (!mayLeaveText()) return; model.add(model.entry().rule, model.place() + 1); edited(); list.show(model.selected); form.focus(); }
  function remove() {
    text.drop();
    const next = model.remove(model.selected);
    model.selected = narrow.matches ? '' : next;
    edited();
    if (narrow.matches) leavePane();
    frame.focusUndo();
  }
  function move(key, step) {
    if (!model.move(key, step)) return;
    edited();
    list.show(key, frame.listPane.contains(document.activeElement));
    announce(`Now number ${model.place(key) + 1} of ${model.entries.length}.`);
  }
  function restore(document) {
    model.setAll(document.rules);
    edited();
    toast(`Version ${document.version} is in the draft. Save it to put it in force.`);
  }
  /** Without one's own changes: somebody else's version where there is one. */
  function discard() {
    text.drop();
    model.load(theirs ?? model.base);
    theirs = null;
    bar.note = '';
    bar.fault('');
    edited();
    frame.focusList();
  }
  function putOnTop() {
    text.drop();
    const both = model.rebase(theirs);
    theirs = null;
    edited();
    bar.fault(both.length ? `Both of you changed ${both.map((name) => `“${name}”`).join(', ')}: there yours stands now. Look again, then save.` : '');
    toast(`Your changes are on top of version ${model.base.version}. Save to put them in force.`);
  }

  // ---- saving
  async function save(note) {
    text.settle();
    if (model.unreadable) return;
    const sent = model.entries;
    const mine = (turn += 1);
    isSending = true;
    redraw();
    try {
      const document = await api.putRules(model.base.version, { rules: model.rules(), note });
      if (mine !== turn) return;
      turn += 1; // what was asked for while it was being saved may be of the version before
      if (model.entries === sent) model.load(document);
      else model.base = document;
      bar.note = '';
      theirs = null;
      toast(h('strong', {}, 'Saved'), ` Version ${document.version} is in force for every request from now on.`);
    } catch (error) {
      if (mine !== turn) return;
      await refusedToSave(error, sent);
      if (mine !== turn) return;
    }
    isSending = false;
    edited();
  }

  async function refusedToSave(error, sent) {
    if (error.status === 412) {
      const mine = turn;
      try { const document = await api.getRules(); if (mine === turn) meet(document); } catch (failed) { if (mine === turn) bar.fault(refusalWords(failed)); }
    } else if (error.status === 422) {
      tell(error.body.errors ?? [], sent);
      const [first] = model.faulty();
      if (!first) return;
      choose(first.key);
      form.focus(first.faults[0].path);
    } else bar.fault(refusalWords(error));
  }

  function tell(errors, sent) {
    model.tell(errors, sent);
    const n = model.faulty().length;
    const rest = model.faults.filter(({ path }) => path[0] !== 'cursor').map(({ path, detail }) => `${path.join(' › ')} ${detail}`.trim());
    bar.fault([n ? `${n} ${n === 1 ? 'rule has' : 'rules have'} faults: they are marked in the list, in the form and in the text.` : '', ...rest].filter(Boolean).join(' '), model.faults.some(({ path }) => path[0] === 'note'));
    redraw();
  }

  // ---- drawing
  const follow = (isFirst) => place.follow((name) => {
    const entry = model.entries.find(({ rule }) => nameOf(rule) === name);
    if (!entry || (entry.key !== model.selected && !mayLeaveText())) return false;
    model.selected = entry.key;
    requestAnimationFrame(() => list.show(entry.key));
    return true;
  }, isFirst);

  function redraw() {
    if (!isOpen) return;
    const entry = model.entry();
    if (load === 'ok' && !model.unreadable) place.name(entry ? nameOf(entry.rule) : '');
    setAttr(document.body, 'data-rule', place.isPaneOpen ? '1' : null);
    const q = frame.query;
    const entries = q ? model.entries.filter(({ rule }) => `${nameOf(rule)} ${ruleWords(rule)}`.toLowerCase().includes(q)) : model.entries;
    const numbers = new Map(model.entries.map(({ key }, n) => [key, n + 1]));
    list.draw({ entries, current: model.selected, words: load !== 'ok' ? '' : !model.entries.length ? 'There are no rules: every request is asked of every operator.' : !entries.length ? 'No rule fits what is searched.' : '',
      tell: (one) => ({ place: numbers.get(one.key), counts: countsOf(model.base, one.rule), isNews: model.isNews(one) }) });
    frame.draw({ model, state: load, failure });
    panels.draw(model);
    bar.draw({ isChanged: load === 'ok' && model.isChanged(), changes: model.changes(), base: model.base, theirs, isSending,
      stop: model.unreadable ? `The text cannot be read: line ${model.unreadable.line}, ${model.unreadable.words}.` : isLost ? 'Saving waits until the connection is back.' : '' });
    setText(byId('rules-changed'), model.isChanged() ? ' ● unsaved' : '');
  }

  function leaveFor(id) { text.settle(); open(id); }
  setInterval(() => { if (isOpen && load === 'ok' && !document.hidden && !isSending) fetchRules(); }, EVERY);
  addEventListener('beforeunload', (event) => { if (load === 'ok' && model.isChanged()) event.preventDefault(); });
  narrow.addEventListener('change', () => redraw());

  return {
    isOpen: () => isOpen,
    save: () => { text.settle(); return bar.submit(); },
    search: () => frame.focusFind(),
    step: (by) => list.go(model.selected, by),
    escape() {
      if (narrow.matches && place.isPaneOpen) { leavePane(); return true; }
      list.show(model.selected, true);
      return true;
    },
    focus: () => (narrow.matches && !place.isPaneOpen ? frame.focusList() : frame.pane.focus()),
    /** Follows the address, the person and the connection; whether the rules are what is looked at. */
    draw({ person, mayLook, lost, isShut }) {
      const wanted = mayLook && named() !== null && !isShut;
      const key = JSON.stringify([wanted, person, lost, location.hash, history.state?.pane]);
      const hasMoved = isOpen && load === 'ok' && place.hasMoved();
      if (key === drawn && !hasMoved) return isOpen;
      drawn = key;
      // Where nobody looks at it, it is not in the page.
      if (wanted !== isOpen) byId('rules').replaceChildren(...(wanted ? frame.nodes : []));
      if (wanted && !isOpen) requestAnimationFrame(() => list.show(model.selected));
      [me, isOpen, isLost] = [person, wanted, lost];
      byId('rules').hidden = !isOpen;
      if (!isOpen) { setAttr(document.body, 'data-rule', null); return false; }
      if (load === 'ok') { follow(false); redraw(); } else { redraw(); ensure(); }
      return true;
    },
    /** A suggested rule as a draft, first in the list, with its trial beside it. */
    async suggest(rule) {
      location.hash = '#rules';
      arrived();
      const mine = turn;
      await ensure();
      if (load !== 'ok' || mine !== turn) return;
      if (!mayLeaveText()) return;
      frame.clearQuery();
      model.add(rule, 0);
      edited();
      openPane();
      list.show(model.selected);
      panels.show('try');
      trial.start();
      form.focus();
      announce('The suggested rule is a draft. Widen it, and see beside it what it would have done.');
    },
    /** Another person at this page starts with nothing of the last one's. */
    forget() {
      for (const part of [trial, history_, place]) part.forget();
      text.drop();
      keepDraft('', null);
      turn += 1;
      clearTimeout(keeping);
      [load, loading, theirs, isSending, drawn] = ['none', null, null, false, ''];
      Object.assign(model, { base: null, entries: [], selected: '', faults: [], removed: null });
      bar.note = '';
      setText(byId('rules-changed'), '');
    },
  };
}
