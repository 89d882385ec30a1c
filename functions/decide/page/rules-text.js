// The rule, or the whole document, as JSON text with the numbers of its lines. What is typed is the draft as soon as it can be
// read; faults are told with their lines, and lead there.

import { h, safeText, setAttr } from './dom.js';
import { pointer, write } from './json.js';
import { lineOf, placeOf, readDocument } from './rules-places.js';
import { isSame } from './rules-merge.js';
import { nameOf } from './rules-words.js';

const REST = 200; // ms of rest before a typed text is read
const MOST_FAULTS = 100;

/** `take(value, isWhole)` is given what was typed; `unreadable({words, line} or null)` whether it can be read. */
export function createRuleText({ take, unreadable }) {
  const [one, all] = [['rule', 'This rule'], ['all', 'All rules']].map(([value, words]) => h('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', 'data-scope': value, onclick: () => { settle(); wantsWhole = value === 'all'; draw(); } }, words));
  const area = h('textarea', { class: 'code-text', 'aria-label': 'The rule as text', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off', wrap: 'off', 'aria-describedby': 'rule-text-faults' });
  const gutter = h('pre', { class: 'gutter', 'aria-hidden': 'true' });
  const faultList = h('ul', { class: 'rule-faults', id: 'rule-text-faults', 'aria-live': 'polite' });
  const giveUp = h('button', { type: 'button', class: 'button small', hidden: true, onclick: () => { drop(); draw(); area.focus(); } }, 'Back to what could be read last');
  const element = h('div', { class: 'rule-text' }, h('div', { class: 'chips', role: 'group', 'aria-label': 'What is shown as text' }, one, all, giveUp), faultList, h('div', { class: 'code-box' }, gutter, area));
  let [wantsWhole, isWhole, entries, current] = [false, false, [], null];
  let source = null; // what the text says, as a value; null: to be written anew
  let [fault, places, timer, marks, said] = [null, new Map(), 0, '', ''];

  const value = () => (isWhole ? entries.map(({ rule }) => rule) : current?.rule);

  function read() {
    clearTimeout(timer);
    timer = 0;
    const result = readDocument(area.value);
    fault = result.words === undefined ? null
      : { words: result.words, line: lineOf(area.value, result.offset), offset: result.offset };
    if (!fault && isWhole && !Array.isArray(result.value)) fault = { words: 'a list of rules is expected', line: 1, offset: 0 };
    giveUp.hidden = !fault;
    if (fault) { unreadable(fault); return drawFaults(); }
    ({ places } = result);
    source = result.value;
    unreadable(null);
    return take(source, isWhole);
  }

  /** Gives up what cannot be read. */
  function drop() { clearTimeout(timer); [timer, fault, source] = [0, null, null]; unreadable(null); }

  /** Reads what is typed and not read yet. */
  function settle() { if (timer) read(); }

  area.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(read, REST); drawGutter(); });
  area.addEventListener('blur', settle);
  area.addEventListener('scroll', () => { gutter.scrollTop = area.scrollTop; }, { passive: true });
  area.addEventListener('keydown', (event) => {
    // Tab leaves the field, as everywhere; Enter keeps the indentation.
    if (event.key !== 'Enter' || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    event.preventDefault();
    const line = area.value.slice(area.value.lastIndexOf('\n', area.selectionStart - 1) + 1, area.selectionStart);
    area.setRangeText(`\n${/^\s*/.exec(line)[0]}`, area.selectionStart, area.selectionEnd, 'end');
    area.dispatchEvent(new Event('input', { bubbles: true }));
  });

  function drawGutter(bad = new Set()) {
    const count = lineOf(area.value, area.value.length);
    const key = `${count}:${[...bad].join()}`;
    if (key === marks) return;
    marks = key;
    const parts = [];
    let text = '';
    for (let n = 1; n <= count; n += 1) {
      if (!bad.has(n)) { text += `${n}\n`; continue; }
      parts.push(text, h('span', { class: 'bad-line' }, `● ${n}\n`));
      text = '';
    }
    gutter.replaceChildren(...parts, text);
    gutter.scrollTop = area.scrollTop;
  }

  function goTo(offset) {
    const from = area.value.lastIndexOf('\n', offset - 1) + 1;
    const end = area.value.indexOf('\n', offset);
    area.focus();
    area.setSelectionRange(from, end < 0 ? area.value.length : end);
    const height = parseFloat(getComputedStyle(area).lineHeight) || 18;
    area.scrollTop = Math.max(0, (lineOf(area.value, offset) - 4) * height);
  }

  function told() {
    if (fault) return [fault];
    const of = isWhole ? entries.map((entry, n) => ({ entry, at: `/${n}` })).filter(({ entry }) => entry.faults.length) : current ? [{ entry: current, at: '' }] : [];
    return of.flatMap(({ entry, at }) => entry.faults.map(({ path, detail }) => {
      const offset = placeOf(places, at + pointer(path));
      return { offset, line: lineOf(area.value, offset), words: detail, where: `${isWhole ? `${nameOf(entry.rule)} ` : ''}${pointer(path)}` };
    })).slice(0, MOST_FAULTS);
  }

  function drawFaults() {
    const found = told();
    const key = JSON.stringify(found);
    if (key === said) return drawGutter(new Set(found.map(({ line }) => line)));
    said = key;
    faultList.replaceChildren(...found.map(({ line, words, where, offset }) => h('li', {}, h('button', { type: 'button', class: 'quiet', onclick: () => goTo(offset) }, `Line ${line}`),
      ' ', where ? [h('code', {}, safeText(where, true)), ' '] : '', safeText(words))));
    setAttr(area, 'aria-invalid', found.length ? 'true' : null);
    return drawGutter(new Set(found.map(({ line }) => line)));
  }

  function draw() {
    const whole = wantsWhole || !current;
    if (whole !== isWhole && !fault) [isWhole, source] = [whole, null];
    one.disabled = !current;
    giveUp.hidden = !fault;
    for (const button of [one, all]) setAttr(button, 'aria-pressed', String((button === all) === isWhole));
    setAttr(area, 'aria-label', isWhole ? 'All rules as text' : 'The rule as text');
    const now = value();
    const says = source !== null && now !== undefined && (isWhole ? Array.isArray(source) && source.length === now.length && now.every((rule, n) => isSame(rule, source[n])) : isSame(now, source));
    if (!says && !timer && !fault) {
      source = now ?? null;
      const text = now === undefined ? '' : write(now, '  ');
      if (area.value !== text) area.value = text;
      places = text ? readDocument(text).places : new Map();
    }
    drawFaults();
  }

  return {
    element, settle,
    focus: () => area.focus(),
    drop,
    draw(model) {
      [entries, current] = [model.entries, model.entry()];
      draw();
    },
  };
}
