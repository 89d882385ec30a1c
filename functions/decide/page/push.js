// "Tell me on this device": the page's service worker, and this browser's push subscription. A subscription is one person's:
// where somebody else signs in at the same browser it ends, and they turn it on for themselves.

import { endPush, getPush, setPush } from './api.js';
import { h } from './dom.js';

const STORE = 'relaytrace.push'; // {id, owner, priorities}: this browser's subscription, and whose it is
const CHOICES = [['', 'All that I may decide'], ['P1,P2', 'P1 and P2'], ['P1', 'P1 only']];
const canTell = 'serviceWorker' in navigator && 'PushManager' in window && 'Notification' in window;

const stored = () => { try { return JSON.parse(localStorage.getItem(STORE)) ?? {}; } catch { return {}; } };
const store = (value) => (value ? localStorage.setItem(STORE, JSON.stringify(value)) : localStorage.removeItem(STORE));
const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const same = (a, b) => a.length === b.length && a.every((byte, n) => byte === b[n]);

/** Registers the service worker; `open(id)` is called where a notification of a request is tapped. */
export async function startWorker(open) {
  if (!('serviceWorker' in navigator)) return;
  navigator.serviceWorker.addEventListener('message', ({ data }) => { if (data?.open) open(String(data.open)); });
  const address = window.trustedTypes?.createPolicy('relaytrace-worker', { createScriptURL: () => 'sw.js' }).createScriptURL('') ?? 'sw.js';
  try { await navigator.serviceWorker.register(address, { scope: './' }); } catch { /* the page works without it */ }
}

/** This browser's subscription by the deployment's key; one by another key is of no use any more. */
async function subscribe(publicKey) {
  const { pushManager } = await navigator.serviceWorker.ready;
  const applicationServerKey = bytes(publicKey);
  const old = await pushManager.getSubscription();
  if (old && same(new Uint8Array(old.options.applicationServerKey ?? []), applicationServerKey)) return old;
  await old?.unsubscribe();
  return pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
}

async function turnOn(owner, priorities) {
  if (await Notification.requestPermission() !== 'granted') return 'The browser does not allow notifications from this page.';
  const { public_key: key } = await getPush();
  const id = stored().id ?? crypto.randomUUID();
  const subscription = await subscribe(key);
  await setPush(id, { ...subscription.toJSON(), ...(priorities && { priorities: priorities.split(',') }) });
  store({ id, owner, priorities });
  return 'This device is told. It ends when you sign out here, and where you were not seen for 14 days.';
}

/** Ends it, also while the page goes away. */
export async function dropPush() {
  const { id } = stored();
  if (!id) return;
  store(null);
  const ended = endPush(id).catch(() => {}); // a message that nobody takes ends it as well
  const registration = canTell && await navigator.serviceWorker.getRegistration();
  await (registration && await registration.pushManager.getSubscription())?.unsubscribe();
  await ended;
}

/** After signing in: browsers change their subscription, and the server forgets who stays away. Another person's ends here. */
export async function renewPush(owner) {
  const { owner: of, priorities } = stored();
  if (!canTell || !of) return;
  if (of !== owner) { try { await dropPush(); } catch { /* a message that nobody takes ends it as well */ } return; }
  if (Notification.permission !== 'granted') return;
  try { await turnOn(owner, priorities); } catch { /* the next sign-in tries again */ }
}

/** The switch; `say` tells what became of it. Not there where the deployment tells browsers nothing. */
export function pushField(owner, say) {
  const input = h('input', { type: 'checkbox', id: 'push-on' });
  const choice = h('select', { id: 'push-priorities', 'aria-label': 'What this device is told of' }, CHOICES.map(([value, words]) => h('option', { value }, words)));
  const field = h('div', { hidden: true, class: 'push-field' },
    h('label', { class: 'check-field', for: 'push-on' }, input, h('span', {}, 'Tell me on this device what is asked, also while this page is closed')), choice);
  const draw = () => {
    const { owner: of, priorities } = stored();
    input.checked = of === owner && Notification.permission === 'granted';
    choice.value = priorities ?? '';
    choice.hidden = !input.checked;
  };
  const change = async () => {
    try { say(input.checked ? await turnOn(owner, choice.value) : (await dropPush(), 'This device is told nothing any more.')); } catch (error) {
      say(`This device could not be turned on: ${error.message}`);
    }
    draw();
  };
  input.addEventListener('change', change);
  choice.addEventListener('change', change);
  if (canTell) getPush().then(({ public_key: key }) => { if (key) { draw(); field.hidden = false; } }, () => {});
  return field;
}
