// Times in words: countdowns, "12 min ago", exact local time. Pure, except for the clock and `tick`.

let skew = 0; // server's clock minus this one's, in ms; 0 while the difference is within its measure's error

/** Learns from a response's Date header (whole seconds, so half a second is added). */
export function learnClock(dateHeader, sentAt, gotAt) {
  const server = Date.parse(dateHeader ?? '');
  if (!Number.isFinite(server)) return;
  const difference = server + 500 - (sentAt + gotAt) / 2;
  skew = Math.abs(difference) > 2000 ? difference : 0;
}

export const now = () => Date.now() + skew;

/** Time left as a person reads it: "2 d 3 h", "3 h 12 min", "12:04". */
export function countdown(ms) {
  if (!(ms > 0)) return 'expired';
  const s = Math.ceil(ms / 1000);
  const [d, hours, min] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${String(min).padStart(2, '0')} min`;
  return `${min}:${String(s % 60).padStart(2, '0')}`;
}

/** The same for a screen reader, without seconds that would go stale. */
export function countdownWords(ms) {
  if (!(ms > 0)) return 'expired';
  const min = Math.floor(ms / 60000);
  if (min < 1) return 'less than a minute left';
  if (min < 60) return `${min} ${min === 1 ? 'minute' : 'minutes'} left`;
  return `${countdown(ms)} left`;
}

const [RED, AMBER] = [120_000, 300_000]; // ms left of a P1, whatever share of its time that is

/** "calm", "soon" (amber), "urgent" (red: also under a tenth of the time left) or "over". */
export function urgency({ priority, created_at: createdAt, respond_by: respondBy }, at = now()) {
  const [from, to] = [Date.parse(createdAt), Date.parse(respondBy)];
  if (!Number.isFinite(to)) return 'calm';
  const left = to - at;
  if (left <= 0) return 'over';
  if (left < (to - from) * 0.1 || (priority === 'P1' && left < RED)) return 'urgent';
  return priority === 'P1' && left < AMBER ? 'soon' : 'calm';
}

/** The same as a word, for those who do not see colours; '' where there is nothing to add to the countdown. */
export const urgencyWord = (level) => (level === 'soon' || level === 'urgent' ? level : '');

export function relative(iso, at = now()) {
  const t = Date.parse(iso);
  if (!Number.isFinite(t)) return 'unknown';
  const s = Math.round(Math.abs(at - t) / 1000);
  if (s < 3) return 'just now';
  const text = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
  return t > at ? `in ${text}` : `${text} ago`;
}

/** When something was, as a history tells it: relative for a day, then the date and time of day. */
export function moment(iso, at = now()) {
  const t = Date.parse(iso);
  if (!Number.isFinite(t) || at - t < 86_400_000) return relative(iso, at);
  const year = new Date(t).getFullYear() === new Date(at).getFullYear() ? undefined : 'numeric';
  return new Date(t).toLocaleString(undefined, { year, month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' });
}

export function exact(iso) {
  const t = new Date(iso);
  if (Number.isNaN(t.getTime())) return String(iso ?? '');
  return t.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' }) + ` (${t.toISOString()})`;
}

const two = (n) => String(n).padStart(2, '0');
/** The day that a time belongs to here, as a date field wants it. `isEnd`: the time is the first moment after its day. */
export function dayOf(iso, isEnd) {
  if (!iso) return '';
  const at = new Date(Date.parse(iso) - (isEnd ? 1 : 0));
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}
/** The first moment of a day here, or after it. */
export function timeOf(day, isEnd) {
  const [year, month, date] = day.split('-').map(Number);
  return year ? new Date(year, month - 1, date + (isEnd ? 1 : 0)).toISOString() : '';
}

/** <time> that `tick` keeps true: relative in the text, exact on hover. */
export function timeNode(iso) {
  const el = document.createElement('time');
  el.dateTime = iso ?? '';
  el.title = exact(iso);
  el.dataset.relative = iso ?? '';
  el.textContent = relative(iso);
  return el;
}

export function tick(root) {
  const at = now();
  for (const el of root.querySelectorAll('[data-relative]')) {
    const text = relative(el.dataset.relative, at);
    if (el.textContent !== text) el.textContent = text;
  }
}
