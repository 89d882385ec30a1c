// A rule in words: what it is about and what it does, in one sentence. Pure functions; whatever is no rule is told as such.

import { isNumber, isObject, pathOf, write } from './json.js';

/** The modes, each with a shape of its own: a colour alone says nothing. */
export const MODES = {
  enforce: { icon: '●', name: 'Enforced', words: 'it acts from the moment that it is saved' },
  shadow: { icon: '◐', name: 'Shadow', words: 'it never acts: what it would have done is counted' },
  off: { icon: '○', name: 'Off', words: 'it is not looked at' },
};
const MOST = 3; // items of a list that a sentence names
const LONG = 60; // characters of a value that a sentence shows

const isList = (value) => Array.isArray(value) && value.length > 0;
const short = (text) => (text.length > LONG ? `${text.slice(0, LONG)}…` : text);
const clause = (text) => (typeof text === 'string' ? short(text) : short(write(text)));

/** "a, b or 4 others". */
function listed(items, last = 'or') {
  const all = items.length > MOST + 1 ? [...items.slice(0, MOST).map(clause), `${items.length - MOST} others`] : items.map(clause);
  return all.length < 2 ? all.join('') : `${all.slice(0, -1).join(', ')} ${last} ${all.at(-1)}`;
}

/** A length of time in the largest unit that it is a whole number of. */
export function span(seconds) {
  const n = Number(seconds);
  if (!Number.isInteger(n) || n <= 0) return `${clause(seconds)} seconds`;
  const [size, unit] = [[86_400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']].find(([one]) => n % one === 0);
  return `${(n / size).toLocaleString('en')} ${unit}${n === size ? '' : 's'}`;
}

const valueWords = (value) => (typeof value === 'string' && !/^[\p{L}\p{N}_.:/@-]+$/u.test(value) ? `“${short(value)}”` : clause(value));
const place = (pointer) => (pointer === '' ? 'the arguments' : short(pathOf(pointer).join(' › ')));

const TESTS = {
  equals: (value) => `is ${valueWords(value)}`,
  in: (value) => `is ${Array.isArray(value) ? listed(value.map(valueWords)) : valueWords(value)}`,
  lt: (value) => `is below ${valueWords(value)}`,
  lte: (value) => `is at most ${valueWords(value)}`,
  gt: (value) => `is above ${valueWords(value)}`,
  gte: (value) => `is at least ${valueWords(value)}`,
  prefix: (value) => `begins with ${valueWords(value)}`,
  exists: (value) => (value === false ? 'is not there' : 'is there'),
  length_lte: (value) => `is at most ${valueWords(value)} long`,
};

/** Conditions of arguments, each as a clause. */
function conditions(all) {
  if (!isObject(all)) return [];
  return Object.entries(all).map(([pointer, tests]) => {
    const said = isObject(tests) ? Object.entries(tests).map(([name, value]) => TESTS[name]?.(value) ?? `${short(name)} ${valueWords(value)}`) : [valueWords(tests)];
    return `${place(pointer)} ${said.join(' and ')}`;
  });
}

function matchWords(match) {
  const { agents, action_types: types, priorities, groups, on_behalf_of: behalf } = match;
  const said = [`When ${isList(agents) ? listed(agents) : 'any agent'} asks for ${isList(types) ? listed(types) : 'anything'}`];
  if (isList(priorities)) said.push(` as ${listed(priorities)}`);
  if (isList(groups)) said.push(` in the group ${listed(groups)}`);
  if (behalf === 'present') said.push(' on somebody’s behalf');
  else if (behalf === 'absent') said.push(' on nobody’s behalf');
  else if (isList(behalf)) said.push(` on behalf of ${listed(behalf)}`);
  const [all, not] = [conditions(match.arguments), conditions(match.not?.arguments)];
  if (all.length) said.push(` and ${listed(all, 'and')}`);
  if (not.length) said.push(`, unless ${listed(not, 'and')}`);
  return said.join('');
}

function askWords(ask) {
  const { groups, operators, approvals, priority, respond_within_seconds: within, escalate, on_timeout: timeout, permit_seconds: permit, reroute_to: reroute } = ask;
  const who = [...(isList(groups) ? groups : []), ...(isList(operators) ? operators : [])];
  const said = [who.length ? `ask ${listed(who)}` : 'ask every operator'];
  if (isNumber(approvals) && Number(approvals) > 1) said.push(`${approvals} have to approve`);
  if (priority) said.push(`as ${clause(priority)}`);
  if (within !== undefined) said.push(`answer within ${span(within)}`);
  if (isObject(escalate)) said.push(`after ${clause(escalate.after_percent ?? '?')} % of the time also ask ${isList(escalate.groups) ? listed(escalate.groups, 'and') : 'others'}`);
  if (timeout === 'auto_reject') said.push('reject when time is over');
  else if (timeout === 'raise') said.push('raise the priority when time is over');
  if (isList(reroute)) said.push(`may be rerouted to ${listed(reroute)}`);
  if (permit !== undefined) said.push(`an approval can be used for ${span(permit)}`);
  if (ask.consume === 'required') said.push('an approval has to be consumed');
  if (ask.requester_may_decide === true) said.push('whom it is for may approve it');
  return said.join(', ');
}

/** What a rule does: "approve: small and known, at most 5 times in 1 hour". */
function thenWords(then) {
  if (!isObject(then)) return 'do nothing that can be read';
  if (then.decide === undefined) return isObject(then.ask) ? askWords(then.ask) : 'do nothing yet';
  const limit = isObject(then.at_most) ? `, at most ${clause(then.at_most.count ?? '?')} times in ${span(then.at_most.per_seconds ?? 0)}` : '';
  return `${clause(then.decide)}${then.reason ? ` (${clause(then.reason)})` : ''}${limit}`;
}

/** The whole sentence. */
export function ruleWords(rule) {
  if (!isObject(rule)) return 'This is no rule: it has to be an object.';
  return `${matchWords(isObject(rule.match) ? rule.match : {})}: ${thenWords(rule.then)}.`;
}

export const nameOf = (rule) => (isObject(rule) && typeof rule.name === 'string' && rule.name ? rule.name : 'unnamed');
export const modeOf = (rule) => MODES[isObject(rule) ? rule.mode : ''] ?? { icon: '?', name: 'No mode', words: 'it has to be enforce, shadow or off' };

/** Whether it approves or rejects by itself: what one looks at twice. */
export const decides = (rule) => (isObject(rule?.then) && typeof rule.then.decide === 'string' ? rule.then.decide : '');
