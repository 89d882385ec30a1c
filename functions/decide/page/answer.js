// What an operator writes instead of a plain yes or no: the action with other arguments, or a response. The form, the
// difference to what was asked, and the digest of exactly what is written.

import { h, setText } from './dom.js';
import { changeList, countWords } from './changes.js';
import { createForm } from './form.js';
import { differences } from './diff.js';
import { digestOf } from './digest.js';
import { pathOf, write } from './json.js';
import { readFields } from './fields.js';
import { fieldsOf, jsonField } from './schema.js';

const MOST_CHARACTERS = 8000; // of a response without a schema
const PREFIX = { edit: '/arguments', respond: '/response' };

const textField = () => ({ kind: 'text', name: '', title: '', help: '1 to 8,000 characters', empty: 'missing', isLong: true, text: '' });

/** `changed(field, text)`: something was typed. */
export function createAnswer({ changed }) {
  const form = createForm({ changed: () => { told = []; refresh(); changed(form.field, textNow()); } });
  const asJson = h('button', { type: 'button', class: 'quiet', onclick: () => toggle() });
  const count = h('span', { class: 'changes-count', role: 'status' });
  const list = h('div', { class: 'changes-scroll', tabindex: '0', role: 'group', 'aria-label': 'Changes to what was asked' });
  const digest = h('code', { class: 'digest' });
  const changes = h('section', { class: 'changes', 'aria-labelledby': 'h-changes' },
    h('h4', { id: 'h-changes' }, 'What changes'), count, list, h('p', { class: 'digest-line' }, 'Digest of what you approve', digest));
  const element = h('div', { class: 'answer', hidden: true }, h('div', { class: 'answer-fields' }, form.element, asJson), changes);
  let [detail, mode, turn] = [null, '', 0];
  let [tried, told] = [false, []]; // faults of empty fields show after the first try; those of the server until the next change

  const asked = () => (mode === 'edit' ? detail.action.arguments : undefined);
  const schema = () => (mode === 'edit' ? detail.edit_schema : detail.respond_schema);
  const label = () => (mode === 'edit' ? 'Arguments' : 'Response');
  const isWhole = () => form.field.kind === 'json';

  function read() {
    const { value, faults } = readFields(form.field, asked());
    if (mode === 'edit' && !faults.length && (value === null || typeof value !== 'object' || Array.isArray(value))) faults.push({ pointer: '', detail: 'The arguments have to be an object: { … }.' });
    if (mode === 'respond' && !schema() && typeof value === 'string') {
      const length = [...value].length;
      if (length > MOST_CHARACTERS) faults.push({ pointer: '', detail: `It has ${length.toLocaleString('en')} characters, ${(length - MOST_CHARACTERS).toLocaleString('en')} too many.` });
    }
    return { value, faults };
  }

  function textNow() {
    const { value, faults } = read();
    if (faults.length) return form.field.text ?? '';
    return typeof value === 'string' ? value : write(value, '  ');
  }

  function refresh() {
    const { value, faults } = read();
    form.tell([...faults.filter(({ isEmpty }) => tried || !isEmpty), ...told]);
    if (mode !== 'edit') return;
    const all = faults.length ? null : differences(asked(), value);
    setText(count, all ? countWords(all.length) : 'Not known while something is missing or wrong');
    list.replaceChildren(all?.length ? changeList(all) : '');
    list.hidden = !all?.length;
    drawDigest(all ? { type: detail.action.type, arguments: value } : null);
  }

  async function drawDigest(action) {
    turn += 1;
    const mine = turn;
    const computed = action ? await digestOf(action).catch(() => null) : null;
    if (mine === turn) setText(digest, computed ?? '');
  }

  function toggle() {
    const { value, faults } = read();
    if (faults.length && isWhole()) { tried = true; refresh(); return form.focus([]); }
    form.show(isWhole() ? fieldsOf(schema(), value) : jsonField(faults.length ? asked() : value), label());
    setText(asJson, isWhole() ? 'As fields' : 'As JSON');
    refresh();
    return form.focus([]);
  }

  return {
    element,
    focus: () => form.focus(null),
    /** Opens the form for a request; `kept` are fields from before. */
    show(next, nextMode, kept) {
      [detail, mode, tried, told] = [next, nextMode, false, []];
      element.hidden = false;
      element.dataset.mode = mode;
      changes.hidden = mode !== 'edit';
      const plain = mode === 'respond' && !schema();
      form.show(kept ?? (plain ? textField() : fieldsOf(schema(), asked())), label());
      asJson.hidden = plain;
      setText(asJson, isWhole() ? 'As fields' : 'As JSON');
      refresh();
    },
    hide() { element.hidden = true; },
    /** What is sent, with the digest of exactly what is shown; or {fault} in words, said at its field too. */
    async body() {
      tried = true;
      refresh();
      const { value, faults } = read();
      if (faults.length) { form.focus(pathOf(faults[0].pointer)); return { fault: 'Not sent: see the marked fields.' }; }
      if (mode === 'respond') return { decision: 'respond', response: value };
      if (!differences(asked(), value).length) return { fault: 'Nothing is changed yet. To let it run as asked, approve it.' };
      const edited = await digestOf({ type: detail.action.type, arguments: value });
      if (!edited) return { fault: 'The digest of what you wrote could not be computed. Nothing was sent.' };
      return { decision: 'edit', arguments: value, edited_action_digest: edited };
    },
    /** Faults that the server found, each at its field; whether there were any. */
    tell(errors) {
      told = (errors ?? []).filter(({ pointer }) => typeof pointer === 'string' && (pointer === PREFIX[mode] || pointer.startsWith(`${PREFIX[mode]}/`)))
        .map(({ pointer, detail: words }) => ({ pointer: pointer.slice(PREFIX[mode].length), detail: String(words) }));
      refresh();
      if (told.length) form.focus(pathOf(told[0].pointer));
      return told.length > 0;
    },
  };
}

