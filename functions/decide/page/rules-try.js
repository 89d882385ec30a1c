// Trying the draft on what people decided before: from when to when, how far it is, what it would have done, and examples,
// the dangerous ones first. Tried again after each change, so that one sees at once what a wider rule would have done.

import { h, isolated, onPlainClick, safeText, setAttr, setText } from './dom.js';
import * as api from './api.js';
import { isDangerous, tryOut } from './rules-trial.js';
import { nameOf } from './rules-words.js';
import { refusalWords } from './problems.js';
import { decisionWords } from './state.js';
import { now } from './time.js';

const DAY = 86_400_000;
const REST = 700; // ms after a change, until it is tried again
const AT_ONCE = 10; // examples shown, and described, at once
const two = (n) => String(n).padStart(2, '0');
const dayOf = (ms) => { const at = new Date(ms); return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`; };
const startOf = (day, more = 0) => { const [year, month, date] = day.split('-').map(Number); return new Date(year, month - 1, date + more).getTime(); };
const number = (n) => Number(n).toLocaleString('en');

const WAS = { approved: 'was approved', rejected: 'was rejected', responded: 'was answered', cancelled: 'was cancelled', timed_out: 'timed out', pending: 'is pending' };
const WOULD = { approved: 'the draft would approve', rejected: 'the draft would reject', asked: 'the draft would ask', failed: 'the draft could not judge it' };
const TILES = [['approved', 'would be approved'], ['rejected', 'would be rejected'], ['asked', 'would be asked'], ['failed', 'could not be judged, so asked'], ['skipped', 'erased, not tried']];

/** `draft()` gives {rules, rule, key, sent, text}: the rules to try, the chosen one, another text for another draft; `refused(errors, sent)` shows faults; `open(id)` a request. */
export function createTry({ draft, refused, open }) {
  const [from, to] = ['From', 'to'].map((words, n) => { const input = h('input', { type: 'date', id: `try-${n ? 'to' : 'from'}` }); return { input, element: h('label', {}, words, ' ', input) }; });
  const span = (days) => { to.input.value = dayOf(now()); from.input.value = dayOf(now() - days * DAY); };
  const presets = [7, 30, 90].map((days) => h('button', { type: 'button', class: 'chip', onclick: () => { span(days); start(); } }, `${days} days`));
  const again = h('input', { type: 'checkbox', id: 'try-again', checked: true });
  const asIf = h('input', { type: 'checkbox', id: 'try-as-if', checked: true });
  const asIfField = h('label', { class: 'check-field', for: 'try-as-if' }, asIf, h('span', {}, 'As if this rule were enforced'));
  const go = h('button', { type: 'button', class: 'button primary', id: 'try-start', onclick: () => start() }, 'Try the draft');
  const cancel = h('button', { type: 'button', class: 'button', id: 'try-cancel', hidden: true, onclick: () => { stop('Cancelled: these are the requests that were tried until then.'); if (sum) drawExamples(); } }, 'Cancel');
  const bar = h('progress', { max: '1', 'aria-label': 'How much of the time is tried' });
  const status = h('p', { class: 'try-status', role: 'status' });
  const error = h('p', { class: 'composer-error', role: 'alert' });
  const danger = h('p', { class: 'try-danger', role: 'alert' });
  const tiles = h('dl', { class: 'try-counts' });
  const list = h('ul', { class: 'try-examples' });
  const more = h('button', { type: 'button', class: 'button small', hidden: true, onclick: () => { shown += AT_ONCE; drawExamples(); } });
  const results = h('div', { class: 'try-results' }, danger, tiles, list, more);
  const element = h('div', { class: 'rule-try' },
    h('p', { class: 'field-help' }, 'The draft as it stands, on requests that were asked in this time. Nothing changes.'),
    h('div', { class: 'try-times' }, from.element, to.element, h('div', { class: 'chips', role: 'group', 'aria-label': 'Time to try' }, presets)),
    h('div', { class: 'stack' }, asIfField, h('label', { class: 'check-field', for: 'try-again' }, again, h('span', {}, 'Again after each change'))),
    h('div', { class: 'bar-row' }, go, cancel), bar, status, error, results);
  bar.hidden = true;
  span(30);

  let [control, timer, sum, shown] = [null, 0, null, AT_ONCE];
  let [tried, current] = ['', null];
  const told = new Map(); // request_id -> nodes that say which request it is

  function stop(words) {
    clearTimeout(timer);
    control?.abort();
    control = null;
    setRunning(false);
    if (words) setText(status, words);
  }

  function setRunning(is) {
    // Where the focus was, it stays: on what one would press next.
    const held = [go, cancel].includes(document.activeElement);
    [go.hidden, cancel.hidden, bar.hidden] = [is, !is, !is];
    setAttr(results, 'aria-busy', is ? 'true' : null);
    if (held) (is ? cancel : go).focus();
  }

  /** The rules that are tried: the chosen one may be tried as if it acted. */
  function rulesToTry() {
    const { rules, rule } = draft();
    const isAsIf = asIf.checked && rule && rule.mode !== 'enforce';
    return isAsIf ? rules.map((one) => (one === rule ? { ...rule, mode: 'enforce' } : one)) : rules;
  }

  /** Another text where something else would be tried. */
  function whatToTry() {
    const { text, rule, key } = draft();
    return `${text} ${asIf.checked && rule && rule.mode !== 'enforce' ? key : ''}`;
  }

  async function start() {
    stop('');
    const [begin, end] = [startOf(from.input.value), Math.min(startOf(to.input.value, 1), now())];
    if (!(end > begin)) { setText(error, 'Choose a time that begins before it ends, and in the past.'); from.input.focus(); return; }
    const { sent } = draft();
    const mine = new AbortController();
    control = mine;
    [shown, current] = [AT_ONCE, draft().rule];
    setText(error, '');
    setText(status, 'Trying …');
    bar.value = 0;
    setRunning(true);
    tried = whatToTry();
    try {
      const done = await tryOut(rulesToTry(), { from: begin, to: end, signal: mine.signal, step: (part) => { if (control === mine) { sum = { ...part }; drawSum(); } } });
      if (control !== mine) return;
      sum = done;
      setRunning(false);
      drawSum();
    } catch (failure) {
      if (control !== mine) return;
      setRunning(false);
      results.hidden = true; // they are of another draft
      setText(status, '');
      setText(error, failure.status === 422 ? 'The draft has faults: they are shown at their places.' : refusalWords(failure).replace('Nothing was recorded: ', '').replace(/ It is not known whether it arrived\./, ''));
      if (failure.status === 422) refused(failure.body.errors ?? [], sent);
    }
  }

  function drawSum() {
    results.hidden = false;
    bar.value = sum.part;
    const share = sum.same + sum.differs ? Math.floor((100 * sum.same) / (sum.same + sum.differs)) : 0;
    setText(status, `${sum.isWhole ? '' : `${Math.floor(100 * sum.part)} % · `}${number(sum.tried)} ${sum.tried === 1 ? 'request' : 'requests'} tried${sum.tried ? `: ${number(sum.same)} end the same (${share} %), ${number(sum.differs)} otherwise` : '.'}`);
    const n = sum.dangerous;
    setText(danger, n ? `▲ ${number(n)}${sum.isMore ? ' or more' : ''} that ${n === 1 ? 'was' : 'were'} rejected would be approved.` : '');
    tiles.replaceChildren(...TILES.filter(([name]) => sum.counts[name] || name !== 'skipped').map(([name, words]) => h('div', { 'data-kind': name, 'data-some': sum.counts[name] > 0 }, h('dt', {}, words), h('dd', {}, number(sum.counts[name] ?? 0)))));
    drawExamples();
  }

  function drawExamples() {
    // What the chosen rule would do comes first among its like.
    const mine = nameOf(current);
    const kind = (one) => (isDangerous(one) ? 0 : 2) + (current && one.rule === mine ? 0 : 1);
    const all = sum.examples.toSorted((one, other) => kind(one) - kind(other));
    list.replaceChildren(...all.slice(0, shown).map(example));
    more.hidden = all.length <= shown;
    setText(more, `Show more (${all.length - shown} left)`);
    if (sum.isWhole || !control) describe(all.slice(0, shown).map((one) => one.request_id));
  }

  function example(one) {
    const { request_id: id, was, would, rule } = one;
    const link = h('a', { href: `?status=all&id=${encodeURIComponent(id)}` }, told.get(id)?.title ?? id);
    link.addEventListener('click', onPlainClick(() => open(id)));
    return h('li', { 'data-id': id, 'data-dangerous': isDangerous(one) },
      h('p', {}, link),
      h('p', { class: 'said' }, told.get(id)?.was ?? WAS[was] ?? safeText(String(was)), ', ', h('strong', {}, WOULD[would] ?? safeText(String(would))),
        rule ? [' by ', h('code', {}, safeText(rule, true))] : ''));
  }

  /** What the requests are: their titles, and who decided them for which reason. Asked for once each, one after the other. */
  async function describe(ids) {
    for (const id of ids.filter((one) => !told.has(one))) {
      told.set(id, {});
      let detail;
      try { detail = await api.getDetail(id); } catch { continue; } // its id has to do
      const { decision } = detail;
      const who = decision?.cause === 'operator' || decision?.cause === 'admin' ? decision.decided_by?.name || decision.decided_by?.id : '';
      const was = !decision ? null : [who ? `${decisionWords(decision)} by ` : decisionWords(decision), who ? isolated(String(who)) : '', decision.reason ? [' (', isolated(decision.reason), ')'] : ''];
      told.set(id, { title: isolated(detail.title), was });
      const row = [...list.children].find((item) => item.dataset.id === id);
      const found = sum.examples.find((item) => item.request_id === id);
      if (row && found && !row.contains(document.activeElement)) row.replaceWith(example(found));
    }
  }

  asIf.addEventListener('change', () => { if (sum) start(); });
  return {
    element, start,
    /** The draft may have changed: tried again after a while, where it was tried before. */
    follow() {
      const { rule } = draft();
      asIfField.hidden = !rule || rule.mode === 'enforce';
      if (rule) asIfField.lastChild.replaceChildren('As if ', h('bdi', {}, safeText(nameOf(rule))), ' were enforced');
      const wanted = whatToTry();
      if (!sum || !again.checked || wanted === tried) return;
      tried = wanted;
      clearTimeout(timer);
      timer = setTimeout(() => start(), REST);
    },
    forget() { stop(''); [sum, tried] = [null, '']; told.clear(); for (const one of [tiles, list, danger]) one.replaceChildren(); setText(status, ''); more.hidden = true; },
  };
}
