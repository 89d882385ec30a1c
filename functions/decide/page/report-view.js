// The report's view as an address and back, and its figures in words. Pure functions only.

export const GROUPINGS = [['priority', 'Priority'], ['agent', 'Agent'], ['group', 'Group'], ['operator', 'Operator']];
/** Periods up to now, in days. */
export const PERIODS = [[1, '24 hours'], [7, '7 days'], [30, '30 days'], [90, '90 days']];
const [USUAL, DAY, MINUTE] = [7, 86_400_000, 60_000];

/** An address's fragment -> {by, last, from, to}, or null where it is not about the report. `from` or `to` take the place of `last`. */
export function parseReport(hash) {
  const [area, search = ''] = hash.slice(1).split('?');
  if (area !== 'report') return null;
  const q = new URLSearchParams(search);
  const time = (name) => (Number.isNaN(Date.parse(q.get(name))) ? '' : q.get(name));
  const known = (all, value, usual) => (all.some(([one]) => String(one) === value) ? value : usual);
  return { by: known(GROUPINGS, q.get('by'), 'priority'), last: Number(known(PERIODS, q.get('last'), USUAL)), from: time('from'), to: time('to') };
}

/** A view -> fragment, what is usual left out. */
export function reportUrl({ by, last, from, to }) {
  const q = new URLSearchParams();
  if (by !== 'priority') q.set('by', by);
  if (from) q.set('from', from);
  if (to) q.set('to', to);
  if (!from && !to && last !== USUAL) q.set('last', String(last));
  return `#report${q.size ? `?${q}` : ''}`;
}

/** A view -> query of the report's route; `at` is the time now in ms. */
export function reportQuery({ last, from, to }, by, at) {
  const end = to ? Date.parse(to) : at;
  const q = new URLSearchParams({ by, from: from || new Date(Math.floor((end - last * DAY) / MINUTE) * MINUTE).toISOString() });
  if (to) q.set('to', to);
  return String(q);
}

/** Of those whose time ended or who were answered, the share that was answered in time; null where there is none. */
export const shareOf = ({ decided_in_time: inTime, timed_out: late }) => (inTime + late ? inTime / (inTime + late) : null);

/** Rounded down: "100 %" means all of them. */
export const shareWords = (share) => (share === null ? '–' : `${Math.floor(share * 1000 + 1e-9) / 10} %`);

const COUNTS = ['asked', 'decided_in_time', 'timed_out', 'cancelled', 'pending'];

/** The sum of lines in which each request stands once. */
export const sumOf = (items) => Object.fromEntries(COUNTS.map((name) => [name, items.reduce((sum, item) => sum + item[name], 0)]));

/** Seconds as a person reads them; "–" for none. */
export function lasted(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 1) return 'under 1 s';
  const s = Math.round(seconds);
  const [d, hours, min] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${min} min`;
  return min ? `${min} min ${s % 60} s` : `${s} s`;
}

/** What a line is about where it has no key. */
export const KEYLESS = { group: 'No group in particular', operator: 'Not decided by an operator' };

/** The lines as a table shows them: priorities in their order, the rest as the server has them, the most asked first. */
export const inOrder = (by, items) => (by === 'priority' ? items.toSorted((one, other) => String(one.key).localeCompare(String(other.key))) : items);

/** A field of a CSV file; no program takes it for a formula. */
function field(value) {
  const text = value === null || value === undefined ? '' : String(value);
  const shown = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(shown) ? `"${shown.replaceAll('"', '""')}"` : shown;
}

/** The lines as CSV (RFC 4180). */
export function csvOf(by, items) {
  const columns = ['key', ...COUNTS, 'p50_seconds', 'p90_seconds'];
  return [[by, ...columns.slice(1)], ...items.map((item) => columns.map((name) => item[name]))].map((line) => `${line.map(field).join(',')}\r\n`).join('');
}
