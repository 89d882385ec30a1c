// The rules in their order, as rows of one height of which only those in sight exist. A row says the mode, the name, what the
// rule does in one sentence, and what it did lately.

import { h, safeText, setAttr, setText } from './dom.js';
import { modeOf, nameOf, ruleWords } from './rules-words.js';

const AROUND = 8; // rows drawn before and after those in sight

const number = (n) => Number(n).toLocaleString('en');
const times = (n) => `${number(n)} ${Number(n) === 1 ? 'time' : 'times'}`;

/** What a rule did since its version was saved, as the server counts it. */
export function countsOf(document, rule) {
  const of = (member) => document?.[member]?.[nameOf(rule)] ?? 0;
  return { applied: of('applied'), would: of('would'), failures: of('failures') };
}

/**
 * `choose(key)` opens a rule, `move(key, step)` moves it. `draw` takes the entries to show, each with what stands in `about(entry)`.
 */
export function createRuleList({ choose, move }) {
  const list = h('ol', { class: 'rule-rows', 'aria-label': 'Rules, the first that holds applies' });
  const note = h('p', { class: 'list-note' });
  const element = h('div', { class: 'rules-scroll' }, list, note);
  const rows = new Map(); // key -> {el, button, parts, drawn}
  let [shown, selected, about, height, places] = [[], '', () => ({}), 0, new Map()];

  function createRow(key) {
    const parts = {
      place: h('span', { class: 'rule-place' }), name: h('span', { class: 'rule-name' }), mode: h('span', { class: 'rule-mode' }),
      words: h('span', { class: 'rule-words' }), counts: h('span', { class: 'rule-counts' }),
    };
    const button = h('button', { type: 'button', class: 'rule-row', tabindex: '-1', onclick: () => choose(key) },
      h('span', { class: 'rule-head' }, parts.place, parts.name, parts.mode), parts.words, parts.counts);
    return { el: h('li', {}, button), button, parts, drawn: '' };
  }

  function fill(row, entry, n) {
    const { rule, faults } = entry;
    const { place, counts, isNews } = about(entry);
    const mode = modeOf(rule);
    const key = JSON.stringify([place, nameOf(rule), mode.name, counts, isNews, faults.length]);
    setAttr(row.button, 'aria-current', entry.key === selected ? 'true' : null);
    setAttr(row.el, 'aria-posinset', n + 1);
    setAttr(row.el, 'aria-setsize', shown.length);
    if (row.drawn === key && row.rule === rule) return;
    Object.assign(row, { drawn: key, rule });
    setText(row.parts.place, String(place));
    row.parts.name.replaceChildren(...safeText(nameOf(rule), true));
    row.parts.mode.replaceChildren(h('span', { 'aria-hidden': 'true' }, mode.icon), ` ${mode.name}`);
    setAttr(row.button, 'data-mode', typeof rule?.mode === 'string' ? rule.mode : 'none');
    row.parts.words.replaceChildren(...safeText(ruleWords(rule), true));
    const { applied, would, failures } = counts;
    const did = isNews ? ['not saved yet'] : rule?.mode === 'off' ? [] : rule?.mode === 'shadow'
      ? [would ? `would have applied ${times(would)}` : 'would not have applied yet'] : [applied ? `applied ${times(applied)}` : 'not applied yet'];
    row.parts.counts.replaceChildren(
      h('span', { class: 'did' }, did),
      failures ? h('span', { class: 'failed' }, `could not be judged ${times(failures)}`) : '',
      faults.length ? h('span', { class: 'failed' }, `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}`) : '');
  }

  function stretch() { list.style.height = `${shown.length * height}px`; }

  function drawRows() {
    const held = [...rows].find(([, row]) => row.el.contains(document.activeElement))?.[0];
    const from = height ? Math.floor(element.scrollTop / height) : 0;
    const to = height ? Math.ceil((element.scrollTop + element.clientHeight) / height) : 12;
    const wanted = new Set([places.get(selected), places.get(held)]);
    for (let n = Math.max(0, from - AROUND); n <= to + AROUND; n += 1) wanted.add(n);
    const all = [...wanted].filter((n) => n < shown.length).sort((a, b) => a - b);
    const keys = new Set(all.map((n) => shown[n].key));
    for (const [key, row] of rows) if (!keys.has(key)) { row.el.remove(); rows.delete(key); }
    const stop = keys.has(selected) ? selected : shown[all[0]]?.key;
    let next = list.firstElementChild;
    for (const n of all) {
      const entry = shown[n];
      let row = rows.get(entry.key);
      if (!row) { row = createRow(entry.key); rows.set(entry.key, row); }
      fill(row, entry, n);
      setAttr(row.button, 'tabindex', entry.key === stop ? '0' : '-1');
      if (row.el === next) next = next.nextElementSibling;
      else list.insertBefore(row.el, next);
      if (!height && row.el.offsetHeight) { height = row.el.offsetHeight; stretch(); }
      row.el.style.top = `${n * height}px`;
    }
    if (held && document.activeElement === document.body) (rows.get(selected) ?? rows.get(stop))?.button.focus({ preventScroll: true });
  }

  let drawing = 0;
  element.addEventListener('scroll', () => { drawing ||= requestAnimationFrame(() => { drawing = 0; drawRows(); }); }, { passive: true });
  new ResizeObserver(() => {
    const measured = list.firstElementChild?.offsetHeight;
    if (measured && measured !== height) { height = measured; stretch(); }
    if (element.clientHeight) drawRows();
  }).observe(element);
  list.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const key = [...rows].find(([, row]) => row.el.contains(event.target))?.[0];
    if (event.altKey) move(key, step);
    else go(key, step);
  });

  /** Chooses the rule so many rows further. */
  function go(key, step) {
    const n = places.get(key);
    const target = shown[n === undefined ? 0 : Math.max(0, Math.min(shown.length - 1, n + step))];
    if (!target) return false;
    choose(target.key, true);
    return true;
  }

  return {
    element, go,
    draw({ entries, current, tell, words }) {
      [shown, selected, about] = [entries, current, tell];
      places = new Map(entries.map(({ key }, n) => [key, n]));
      stretch();
      drawRows();
      setText(note, words);
    },
    /** Brings a rule into sight, and gives it the focus if asked to. */
    show(key, focus = false) {
      const n = places.get(key);
      if (n === undefined) return;
      const [top, bottom] = [n * height, (n + 1) * height];
      if (top < element.scrollTop) element.scrollTop = top;
      else if (bottom > element.scrollTop + element.clientHeight) element.scrollTop = bottom - element.clientHeight;
      drawRows();
      if (focus) rows.get(key)?.button.focus({ preventScroll: true });
    },
  };
}
