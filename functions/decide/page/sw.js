// The service worker of the installed page: shows what a push message tells, opens the request that it is about, and says so
// where there is no connection. It keeps nothing: no page, no answer of the API, no decision. What is shown is always asked for.

const scope = new URL(self.registration.scope);

const OFFLINE = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>RelayTrace: no connection</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; display: grid; place-content: center; gap: 1rem; min-height: 90vh; margin: 1rem; text-align: center }
a { min-height: 2.75rem; display: grid; place-items: center; color: inherit }</style></head>
<body><h1>No connection</h1><p>RelayTrace cannot be reached. Nothing is shown from before, and nothing can be decided until it is back.</p>
<a href="">Try again</a></body></html>`;

const offline = () => new Response(OFFLINE, { status: 503, headers: {
  'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store', 'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'",
} });

self.addEventListener('install', (event) => {
  self.skipWaiting();
  // What is no page goes past this worker, which may be asleep: a call that a page makes while it is left would be dropped until
  // it wakes. Browsers that know no routes ask the worker.
  event.addRoutes?.({ condition: { or: ['cors', 'same-origin', 'no-cors'].map((requestMode) => ({ requestMode })) }, source: 'network' })?.catch(() => {});
});
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  if (event.request.mode === 'navigate') event.respondWith(fetch(event.request).catch(offline));
});

/** Time left in whole minutes, hours or days. */
function leftWords(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (!(minutes >= 1)) return 'less than a minute left';
  const [count, unit] = minutes < 120 ? [minutes, 'minute'] : minutes < 2880 ? [Math.floor(minutes / 60), 'hour'] : [Math.floor(minutes / 1440), 'day'];
  return `${count} ${unit}${count === 1 ? '' : 's'} left`;
}

/** The notification of a push message. */
function notificationOf({ request_id: id, notice, title, priority, agent_id: agent, action_type: type, respond_by: until }) {
  return [`${priority}: ${title}`, {
    body: `${notice === 'escalated' ? 'Not answered yet: ' : ''}${agent}, ${type}\n${leftWords(Date.parse(until) - Date.now())}`,
    tag: id, renotify: notice === 'escalated', requireInteraction: priority === 'P1', data: { id },
  }];
}

/** For a message that cannot be read: a browser shows a notification of its own where none is shown. */
const UNREADABLE = ['RelayTrace', { body: 'There may be a request for you. Open the page to see it.', data: { id: '' } }];

async function show([title, options]) {
  await self.registration.showNotification(title, { icon: 'page/icon-192.png', ...options });
  const shown = await self.registration.getNotifications();
  await self.navigator.setAppBadge?.(shown.length);
}

self.addEventListener('push', (event) => {
  let told = null;
  try { told = event.data.json(); } catch { /* not JSON, or no data */ }
  event.waitUntil(show(told?.request_id ? notificationOf(told) : UNREADABLE).catch(() => {}));
});

async function open(id) {
  const address = new URL(scope);
  if (id) address.searchParams.set('id', id);
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const page = pages.find(({ url }) => new URL(url).pathname === scope.pathname);
  // Told and not navigated: what was typed there stays.
  if (!page) return self.clients.openWindow(address);
  if (id) page.postMessage({ open: id });
  return page.focus();
}

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.id ?? '').catch(() => {}));
});
