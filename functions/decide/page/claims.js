// Says to the others who is at a request while its answer is written here. Advice, no lock: nothing waits for it, and
// nothing is told where it does not work.

import * as api from './api.js';
import { claimedByOther } from './may.js';
import { isPending } from './state.js';
import { now } from './time.js';

const SECONDS = 300; // what is claimed at once; renewed when half of it is over
const NONE = { id: '', renewAt: 0, isSeen: false };

/** `me()` is this person's id; `changed()` is called when a claim has arrived. */
export function createClaims({ me, changed }) {
  let held = NONE; // `isSeen`: the request has been read with it
  let takenOver = ''; // the request that this person is at without writing: taken over from another
  let isLeft = false; // the page goes away, or is kept for a way back
  let turn = Promise.resolve(); // one call after the other, so that the last one stands
  const after = (call) => { turn = turn.then(call).then(changed).catch(() => {}); };

  function giveUp() {
    const { id } = held;
    held = NONE;
    return id;
  }

  function release() {
    const id = giveUp();
    if (id) after(() => api.release(id));
  }

  function claim(id) {
    held = { id, renewAt: now() + (SECONDS * 1000) / 2, isSeen: false };
    after(() => (held.id === id ? api.claim(id, SECONDS) : null)); // not where it was given up while it waited its turn
  }

  // At once: what was called before may not be answered any more while the page is there.
  addEventListener('pagehide', () => {
    const id = giveUp();
    isLeft = true; // a late answer must not claim it again
    if (id) api.release(id).catch(() => {});
  });

  addEventListener('pageshow', () => { isLeft = false; });

  return {
    /** The open request as it was read last, null for none, and whether its answer is being written here. */
    follow(detail, isWriting) {
      const id = detail && isPending(detail) ? detail.request_id : '';
      if (takenOver !== id) takenOver = '';
      const wanted = id && (isWriting || takenOver) ? id : '';
      if (held.id && held.id !== wanted) release();
      if (!wanted || document.hidden || isLeft) return;
      const other = claimedByOther(detail, me(), now());
      if (held.id && !other && (detail.claimed_by?.id === me())) held = { ...held, isSeen: true };
      if (other && held.isSeen) { held = NONE; takenOver = ''; } // they have taken it over: theirs stays
      if (!other && (!held.id || now() >= held.renewAt)) claim(id);
    },
    /** In place of somebody else. */
    takeOver({ request_id: id }) { takenOver = id; claim(id); },
    /** Decided: the decision has released it. */
    forget(id) { if (held.id === id) held = NONE; },
  };
}
