// Opt-in alerts for new P1 requests: a sound, and a notification of the desktop while the page is not in front.
// They name the agent and the action's type. Title and arguments stay on the page: a lock screen is no place for them.

import { countdownWords, now } from './time.js';

const STORE = 'relaytrace.alerts';
const UNSEEN = 10_000; // ms that a request may be there before a look finds it
// The last look: the pending P1 requests' ids, and since when they have to be there: in a list that was cut, what is older than
// the look has only moved up. null: look first, then tell what is new.
let known = null;
let audio = null;

export const alertsOn = () => localStorage.getItem(STORE) === 'on';

/** Switches alerts; resolves to what the person has to know about it, or ''. */
export async function setAlerts(on) {
  localStorage.setItem(STORE, on ? 'on' : 'off');
  known = null;
  if (!on) return '';
  ring();
  if (!('Notification' in window)) return 'This browser has no notifications: there will be the sound only.';
  const answer = await Notification.requestPermission();
  return answer === 'granted' ? '' : 'The browser does not allow notifications from this page: there will be the sound only.';
}

/** Alerts to what `ask` gives that was not there before; `open` is called with the request of a clicked notification. */
export async function checkAlerts(ask, open) {
  if (!alertsOn()) return;
  const at = now();
  const { items, next_cursor: cut } = await ask();
  if (!alertsOn()) return;
  const fresh = known && items.filter((item) => !known.ids.has(item.request_id) && Date.parse(item.created_at) >= known.since);
  known = { ids: new Set(items.map((item) => item.request_id)), since: cut ? at - UNSEEN : 0 };
  if (!fresh?.length) return;
  ring();
  if (!document.hasFocus()) notify(fresh, open);
}

function notify(fresh, open) {
  const [first] = fresh;
  const title = fresh.length === 1 ? `P1: ${first.action_type}` : `${fresh.length} new P1 requests`;
  const left = countdownWords(Date.parse(first.respond_by) - now());
  const body = fresh.length === 1 ? `${first.agent_id} asks, ${left}` : `The first of them: ${left}`;
  let notification;
  try { notification = new Notification(title, { body, tag: 'relaytrace-p1' }); } catch { return; } // no permission, or a phone
  notification.onclick = () => { window.focus(); notification.close(); open(first.request_id); };
}

/** Two short tones, made here: there is no file to load. */
function ring() {
  try { audio ??= new AudioContext(); } catch { return; }
  audio.resume(); // a browser keeps it silent until the page was clicked once
  for (const [at, tone] of [[0, 660], [0.18, 880]]) {
    const [wave, volume] = [audio.createOscillator(), audio.createGain()];
    const start = audio.currentTime + at;
    wave.frequency.value = tone;
    volume.gain.setValueAtTime(0.15, start);
    volume.gain.exponentialRampToValueAtTime(0.001, start + 0.16);
    wave.connect(volume).connect(audio.destination);
    wave.start(start);
    wave.stop(start + 0.16);
  }
}
