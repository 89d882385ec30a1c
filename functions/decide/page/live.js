// The loop that keeps the page true: about once a second while it is looked at, slower when it is hidden,
// slower still while the server does not answer. Unchanged answers cost a 304 and draw nothing.

const VISIBLE = 1000;
const HIDDEN = 10_000;
const LONGEST_WAIT = 5000;

/** `run` asks once; `pause()` is an extra wait in ms (Retry-After) or Infinity to stop; `misses()` counts failures in a row. */
export function createLoop(run, { pause, misses }) {
  let timer = 0;
  let running = 0;

  async function turn() {
    clearTimeout(timer);
    running += 1;
    try { await run(); } finally {
      running -= 1;
      if (!running) schedule();
    }
  }

  function schedule() {
    clearTimeout(timer);
    const wait = pause();
    if (wait === Infinity) return;
    const calm = document.hidden ? HIDDEN : VISIBLE;
    const failing = misses() > 1 ? Math.min(VISIBLE * 2 ** (misses() - 2), LONGEST_WAIT) : 0;
    timer = setTimeout(turn, Math.max(calm, failing, wait));
  }

  document.addEventListener('visibilitychange', () => { if (!document.hidden) turn(); });
  addEventListener('online', turn);
  return { now: turn };
}
