// The report for administrators: whether what is asked is decided in time, of a period and by priority, agent, group or operator.

import { byId, h, setAttr, setText } from './dom.js';
import * as api from './api.js';
import { copyCsv, endingNodes, named, sumShare, sumWords, tableOf } from './report-table.js';
import { GROUPINGS, inOrder, parseReport, PERIODS, reportQuery, reportUrl } from './report-view.js';
import { PLAIN } from './state.js';
import { dayOf, now, timeNode, timeOf } from './time.js';

const EVERY = 60_000; // ms after which it is asked for again
const FIRST = 200; // pending requests that are looked through for those that run out of time
const WHY = { 403: 'Only administrators may see the report.', 404: 'The administrators’ routes are not served at this address. Open the page where they are.' };

/** The period and what the lines are about; `change(patch)` is called where one is chosen. */
function createControls(change) {
  const by = h('select', { id: 'report-by', onchange: () => change({ by: by.value }) }, GROUPINGS.map(([value, words]) => h('option', { value }, words)));
  const chips = PERIODS.map(([days, words]) => h('button', { type: 'button', class: 'chip', 'data-days': days, 'aria-pressed': 'false', onclick: () => change({ last: days, from: '', to: '' }) }, words));
  const day = (name) => h('input', { type: 'date', id: `report-${name}`, name, onchange: (event) => change({ [name]: timeOf(event.target.value, name === 'to') }) });
  const days = [day('from'), day('to')];
  const element = h('form', { class: 'report-controls', 'aria-label': 'What the report is about', onsubmit: (event) => event.preventDefault() },
    h('div', { class: 'field' }, h('label', { for: 'report-by' }, 'By'), by),
    h('div', { class: 'chips', role: 'group', 'aria-label': 'Submitted in the last' }, chips),
    h('div', { class: 'days' }, h('label', {}, 'From ', days[0]), h('label', {}, 'to ', days[1])));
  return {
    element, by,
    draw(view) {
      if (by.value !== view.by) by.value = view.by;
      for (const chip of chips) setAttr(chip, 'aria-pressed', String(!view.from && !view.to && Number(chip.dataset.days) === view.last));
      for (const field of days) {
        const shown = dayOf(view[field.name], field.name === 'to');
        if (document.activeElement !== field && field.value !== shown) field.value = shown;
      }
    },
  };
}

/** Why there is no report, in words. */
const failureOf = (error) => WHY[error.status] ?? (error.status === 422 ? `This period cannot be reported: ${error.body.errors?.map(({ detail }) => detail).join('; ') || error.message}.` : error.message);

/** `show(view)` goes to a view of the queue, `open(id)` to a request. */
export function createReport({ show, open }) {
  const controls = createControls(change);
  const [share, sum, asOf] = [h('p', { class: 'report-share' }), h('p', { role: 'status' }), h('p', { class: 'muted report-as-of' })];
  const [problem, lines, ending] = [h('div', { class: 'report-problem', role: 'alert' }), h('div', { class: 'report-lines' }), h('div', { class: 'report-ending' })];
  const heading = h('h2', { tabindex: '-1', id: 'report-heading' }, 'Do we decide in time?');
  const note = h('p', { class: 'muted report-note' }, 'Of the requests that were submitted in the period. In time: of those that were answered or timed out. Half within, nine in ten within: how long people took; what rules decided is left out. A request that several groups are asked counts for each.');
  const nodes = h('div', { class: 'report-page' }, heading, controls.element, problem, h('div', { class: 'report-sum' }, share, sum, asOf), ending, lines, note);
  let isPeriod = false; // what failed is the period: another one has to be chosen
  // `found`: {by, lines, all, waiting, at} of the view that is shown, or null.
  let [isOpen, view, found, failure, person, mayLook, mayDecide, turn, drawn] = [false, null, null, '', '', false, false, 0, ''];

  function change(patch) {
    history.replaceState(history.state, '', reportUrl({ ...view, ...patch }));
    follow();
  }

  /** Follows the address. */
  function follow() {
    const wanted = parseReport(location.hash);
    if (view && reportUrl(wanted) === reportUrl(view)) return;
    [view, found, failure] = [wanted, null, ''];
    load();
  }

  async function load() {
    const mine = (turn += 1);
    redraw();
    if (!mayLook) return;
    const at = now();
    const ask = (by) => api.getReport(reportQuery(view, by, at));
    try {
      const [own, all, queue] = await Promise.all([ask(view.by), view.by === 'priority' ? null : ask('priority'), mayDecide ? api.getList(PLAIN, null, FIRST) : null]);
      if (mine !== turn) return;
      [found, failure] = [{ by: view.by, lines: inOrder(view.by, own.items), all: (all ?? own).items, waiting: queue?.items ?? [], at }, ''];
    } catch (error) {
      if (mine !== turn) return;
      if (!(error instanceof api.Problem || error instanceof api.Lost)) throw error;
      [failure, isPeriod] = [failureOf(error), error.status === 422];
      if (error.status < 500 && error.status !== 429) found = null; // else what was there stays, and says from when it is
    }
    redraw();
  }

  function redraw() {
    if (!isOpen || !view) return;
    controls.draw(view);
    const told = mayLook ? failure : WHY[403];
    const names = found ? named(found.by, found.lines) : [];
    const key = JSON.stringify([told, view.by, found?.at, names, mayDecide]);
    if (key === drawn) return;
    drawn = key;
    problem.replaceChildren(...(told ? [h('p', {}, told), mayLook && !isPeriod ? h('button', { type: 'button', class: 'button small', onclick: () => load() }, 'Try again') : ''] : []));
    controls.element.hidden = !mayLook;
    const focused = document.activeElement?.dataset?.focus;
    setText(share, found ? sumShare(found.all) : '');
    setText(sum, found ? sumWords(found.all) : '');
    asOf.replaceChildren(...(found ? ['As of ', timeNode(new Date(found.at).toISOString())] : []));
    ending.replaceChildren(...(found ? endingNodes(found.waiting, open) : []));
    lines.replaceChildren(...linesOf(told, names));
    note.hidden = !found?.lines.length;
    setAttr(lines, 'aria-busy', found || told ? null : 'true');
    if (focused) [...nodes.querySelectorAll('[data-focus]')].find((one) => one.dataset.focus === focused)?.focus();
  }

  function linesOf(told, names) {
    if (found?.lines.length) return [tableOf(found.by, found.lines, names, mayDecide ? show : null), copyCsv(found.by, found.lines)];
    if (found) return [h('div', { class: 'placeholder' }, h('p', { class: 'note-title' }, 'Nothing to report'), h('p', {}, 'Choose a longer period, or come back when agents have asked.'))];
    return told ? [] : [h('div', { class: 'skeleton', role: 'img', 'aria-label': 'Loading' }, Array.from({ length: 5 }, () => h('div')))];
  }

  setInterval(() => { if (isOpen && !document.hidden) load(); }, EVERY);

  return {
    isOpen: () => isOpen,
    focus: () => heading.focus(),
    /** Follows the address and the person; whether the report is what is looked at. */
    draw(how) {
      const wanted = parseReport(location.hash) !== null && !how.isShut;
      if (wanted !== isOpen) byId('report').replaceChildren(...(wanted ? [nodes] : []));
      const isOther = person !== how.person || mayLook !== how.mayLook || mayDecide !== how.mayDecide;
      [isOpen, person, mayLook, mayDecide] = [wanted, how.person, how.mayLook, how.mayDecide];
      byId('report').hidden = !isOpen;
      if (!isOpen) { view = null; return false; }
      if (isOther) view = null;
      follow();
      redraw();
      return true;
    },
  };
}
