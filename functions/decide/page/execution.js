// What became of an approval: a permit that is used once, and how it went. In sentences, with their times.

import { h, safeText } from './dom.js';
import { chainOf } from './state.js';
import { timeNode } from './time.js';

/** What a chain entry says, wherever it says it. */
export const entryFacts = (entry) => ({ ...(entry?.details && typeof entry.details === 'object' ? entry.details : {}), ...entry });

const lastOf = (detail, kind) => entryFacts(chainOf(detail).entries.findLast((entry) => entry.kind === kind));

/** A paragraph on the execution; '' where there is nothing to say. */
export function executionNodes(detail) {
  const { execution, permit } = detail;
  const [used, outcome] = [lastOf(detail, 'consumed'), lastOf(detail, 'outcome')];
  const at = (iso) => (iso ? [' ', timeNode(iso)] : '');
  const until = permit?.expires_at ?? detail.decision?.permit?.expires_at;
  const by = typeof used.key_id === 'string' ? [' by ', h('bdi', {}, safeText(used.key_id))] : '';
  const words = {
    waiting: ['Not used yet. The agent may carry it out once', until ? [', until ', timeNode(until)] : '', '.'],
    unused: ['Never used: the permit ran out', at(until), '. Nothing was carried out under it.'],
    consumed: ['Being carried out: the permit was used', by, at(used.at), '. No outcome is reported yet.'],
    succeeded: ['Carried out: the agent reported success', at(outcome.at), '.'],
    failed: ['Not carried out as approved: the agent reported a failure', at(outcome.at), '.'],
    unknown: ['It is not known what became of it: the permit was used', by, at(used.at), ', and no outcome was reported in time.'],
  };
  if (!execution || execution === 'none') return '';
  const note = (execution === 'succeeded' || execution === 'failed') && typeof outcome.note === 'string' ? h('q', { class: 'reason', dir: 'auto' }, safeText(outcome.note)) : '';
  return h('p', { class: 'execution', 'data-execution': execution }, words[execution] ?? ['Execution: ', safeText(String(execution))], note && ' ', note);
}
