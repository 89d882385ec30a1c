// The people of a request: for whom it is asked, who is asked and by which rule, who has approved it so far, and who is at
// it now. Drawn again where something in it has changed.

import { h, safeText } from './dom.js';
import { entryFacts } from './execution.js';
import { claimedByOther, missing, needsSeveral, votesOf } from './may.js';
import { nameOf } from './names.js';
import { chainOf, isPending } from './state.js';
import { now, timeNode } from './time.js';
import { actorNodes } from './trace.js';

const name = (text) => h('bdi', {}, safeText(String(text)));
const listed = (nodes) => nodes.map((node, n) => [n ? ', ' : '', node]);
const fact = (kind, words, ...what) => [h('dt', {}, words), h('dd', { 'data-kind': kind }, what)];

/** "1 of 3 approvals", each with its voter, and what is still needed. */
function votes(detail) {
  const { required, given } = detail.approvals;
  const left = missing(detail);
  const bar = h('span', { class: 'votes', role: 'img', 'aria-label': `${given} of ${required} approvals` },
    Array.from({ length: required }, (_, n) => h('span', { class: 'vote', 'data-given': n < given })));
  const list = votesOf(detail).map((vote) => h('li', {}, actorNodes(vote.voted_by), ' ', timeNode(vote.voted_at),
    vote.reason ? [' ', h('q', { class: 'reason', dir: 'auto' }, safeText(vote.reason))] : ''));
  return fact('votes', 'Approvals', h('p', {}, bar, h('strong', {}, `${given} of ${required}`),
    isPending(detail) && left ? `: ${left} more ${left === 1 ? 'person has' : 'people have'} to approve; one rejection decides` : ''),
  list.length ? h('ol', {}, list) : '');
}

/** A rule's name and version; for who may change it, as a link to it. */
function versioned({ name: words, version }, mayRule) {
  const code = h('code', {}, safeText(String(words), true));
  return [mayRule ? h('a', { href: `#rules/${encodeURIComponent(words)}` }, code) : code, h('span', { class: 'muted' }, ` (version ${version})`)];
}
const WOULD = { approve: 'would have approved it', reject: 'would have rejected it', ask: 'would have said who is asked' };

/** What the rules did with it, beyond saying who is asked: it decided, it could not be judged, it was not let decide, it would have. */
function ruled(detail, mayRule) {
  const { rule, decision } = detail;
  const { rule: said, shadow } = entryFacts(chainOf(detail).entries.find(({ kind }) => kind === 'submitted'));
  const all = [];
  if (rule && decision?.cause === 'policy') all.push(h('p', {}, versioned(rule, mayRule), ' ', decision.outcome === 'approved' ? 'approved' : 'rejected', ' it, without a person.'));
  else if (rule && said?.failed) all.push(h('p', {}, versioned(rule, mayRule), ' could not be judged: an argument that it compares is missing, or of another kind. So people are asked, as the strictest rule says.'));
  else if (rule && said?.withheld) all.push(h('p', {}, versioned(rule, mayRule), ' would decide it and may not here, so people are asked.'));
  if (rule && said?.failed_before) all.push(h('p', {}, h('code', {}, safeText(String(said.failed_before), true)), ' before it could not be judged.'));
  if (shadow?.name) all.push(h('p', {}, h('span', { 'aria-hidden': 'true' }, '◐ '), 'Shadow: ', h('code', {}, safeText(String(shadow.name), true)), ` ${WOULD[shadow.effect] ?? 'would have acted'}. It does not act.`));
  return all.length ? fact('rule', 'Rule', ...all) : [];
}

function asked({ assigned_to: to, rule }, reroute, mayRule) {
  const groups = (to?.groups ?? []).map(name);
  const people = (to?.operators ?? []).map((one) => name(nameOf(one)));
  const who = groups.length || people.length
    ? [groups.length ? [groups.length === 1 ? 'group ' : 'groups ', listed(groups)] : '', groups.length && people.length ? '; ' : '', listed(people)] : 'every operator';
  return fact('asked', 'Asked', h('p', {}, who, rule?.name ? [h('span', { class: 'muted' }, ' by the rule '), versioned(rule, mayRule)] : '', ' ', reroute ?? ''));
}

function claim(detail, me, takeOver) {
  const other = claimedByOther(detail, me, now());
  return other ? fact('claimed', 'At it', h('p', {}, name(other.name), ' is answering it, until ', timeNode(other.until), '. You may still answer. ', takeOver)) : [];
}

/** `reroute(detail)` opens the form for it, where `why` gives no reason against it; `takeOver(detail)` says that this person is at it instead. */
export function createPeople({ reroute, takeOver }) {
  const element = h('dl', { class: 'people' });
  let drawn = '';
  let known = null; // what was told of the request drawn before: {id, given, other}
  const rerouteButton = h('button', { type: 'button', class: 'quiet', id: 'reroute', onclick: () => reroute() }, 'Reroute…');
  const takeOverButton = h('button', { type: 'button', class: 'quiet', id: 'take-over', onclick: () => takeOver() }, 'Take over');

  /** What has changed since it was drawn last, in words for those who do not see it: '' where nothing has. */
  function news(detail, me) {
    const other = claimedByOther(detail, me, now());
    const before = known;
    known = { id: detail.request_id, given: detail.approvals?.given ?? 0, other: other?.id };
    if (before?.id !== known.id || !isPending(detail)) return '';
    const latest = votesOf(detail).at(-1)?.voted_by;
    if (known.given > before.given && latest?.id !== me) return `Approval ${known.given} of ${detail.approvals.required}, by ${latest?.name ?? latest?.id ?? 'somebody'}.`;
    return known.other && known.other !== before.other ? `${other.name} is answering this request.` : '';
  }

  return {
    element, news,
    draw(detail, { me, mayReroute, mayRule }) {
      const pending = isPending(detail);
      const behalf = detail.on_behalf_of;
      const { request_id: id, approvals, votes: given, assigned_to: to, rule, claimed_by: by, claimed_until: until } = detail;
      // Drawn only where something differs: its buttons keep the focus, and nothing is read twice.
      const key = JSON.stringify([id, pending, approvals, given, behalf, to, (to?.operators ?? []).map(nameOf), rule, detail.decision?.cause, by, until, Date.parse(until) > now(), me, mayReroute, mayRule]);
      if (key === drawn) return;
      drawn = key;
      const focused = [rerouteButton, takeOverButton].find((button) => button === document.activeElement);
      const facts = [
        needsSeveral(detail) ? votes(detail) : [],
        behalf ? fact('behalf', 'On behalf of', name(behalf.name ?? behalf.id ?? behalf)) : [],
        pending || detail.assigned_to || (detail.rule && detail.decision?.cause !== 'policy') ? asked(detail, pending && mayReroute ? rerouteButton : null, mayRule) : [],
        ruled(detail, mayRule),
        pending ? claim(detail, me, takeOverButton) : [],
      ].flat();
      element.replaceChildren(...facts);
      if (focused?.isConnected) focused.focus();
    },
  };
}
