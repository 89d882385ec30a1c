// Several requests chosen in the list, to be answered at once: approvals of one kind of action and never P1, rejections of
// any. What is chosen is only a list of names: each action is shown again before anything is sent (batch.js).

import { byId, h, setAttr, setText } from './dom.js';
import { whyNotAtOnce } from './may.js';
import { isPending } from './state.js';
import { key } from './composer.js';

const MOST = 100; // of one call

/** `answer(mode, items)` opens the answer to the chosen; `changed()` is called when others are chosen. */
export function createPicks({ answer, changed }) {
  const chosen = new Map(); // request_id -> item
  const place = byId('picked');
  const count = h('strong', { role: 'status' });
  const why = h('p', { class: 'why', id: 'picked-why' });
  const act = (mode) => h('button', { type: 'button', class: `button small ${mode}`, id: `picked-${mode}`, 'aria-describedby': 'picked-why', onclick: () => go(mode) });
  const [approve, reject] = [act('approve'), act('reject')];
  const rest = h('button', { type: 'button', class: 'quiet', onclick: () => addAll() });
  const clear = h('button', { type: 'button', class: 'quiet', onclick: () => self.clear() }, 'Clear');
  place.append(h('div', { class: 'bar-row' }, count, approve, reject, rest, clear), why);
  let listed = [];

  const items = () => [...chosen.values()];
  const stop = (mode) => (mode === 'approve' ? whyNotAtOnce(items()) : '');

  function go(mode) {
    if (chosen.size && !stop(mode)) answer(mode, items());
  }

  /** The others of the one kind that is chosen. */
  function likes() {
    const [first] = chosen.values();
    if (!first || whyNotAtOnce(items())) return [];
    return listed.filter((item) => isPending(item) && item.action_type === first.action_type && item.priority !== 'P1' && !chosen.has(item.request_id)).slice(0, MOST - chosen.size);
  }

  function addAll() {
    for (const item of likes()) chosen.set(item.request_id, item);
    changed();
    clear.focus();
  }

  const self = {
    go,
    has: (id) => chosen.has(id),
    get size() { return chosen.size; },
    /** Chooses a request, or no longer; false where no more can be chosen. */
    toggle(item, on = !chosen.has(item.request_id)) {
      if (!isPending(item) || (on && chosen.size >= MOST)) return false;
      if (on) chosen.set(item.request_id, item);
      else chosen.delete(item.request_id);
      changed();
      return true;
    },
    clear() { if (chosen.size) { chosen.clear(); changed(); } },
    /** What is listed now, and whether that is known: what is not pending any more, or not listed, is no longer chosen. */
    draw(all, isKnown) {
      listed = all;
      if (isKnown && chosen.size) {
        const pending = new Map(all.filter(isPending).map((item) => [item.request_id, item]));
        for (const id of chosen.keys()) if (pending.has(id)) chosen.set(id, pending.get(id)); else chosen.delete(id);
      }
      place.hidden = !chosen.size;
      if (!chosen.size) return;
      const n = chosen.size;
      setText(count, `${n} selected${n === MOST ? ', the most at once' : ''}`);
      for (const [button, mode, words] of [[approve, 'approve', 'Approve'], [reject, 'reject', 'Reject']]) {
        if (button.dataset.n !== String(n)) { button.dataset.n = n; button.replaceChildren(`${words} ${n}…`, key(`⇧${words[0]}`)); }
        setAttr(button, 'aria-disabled', stop(mode) ? 'true' : null);
      }
      const more = likes();
      rest.hidden = !more.length;
      setText(rest, more.length ? `Add ${more.length} more of ${more[0].action_type}` : '');
      setText(why, stop('approve'));
    },
  };
  return self;
}
