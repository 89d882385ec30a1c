// What stands in the fields of a form, read as a JSON value. Pure functions of the data that schema.js makes.

import { isBranch, literals, numberFault, numberOf, parseExact, pointer } from './json.js';

const ABSENT = Symbol('absent');

/** -> {value, faults: [{pointer, detail, isEmpty}]}; `value` means something only without faults. */
export function readFields(field, asked) {
  const faults = [];
  const value = read(field, { faults, known: new Set(isBranch(asked) ? literals(asked) : []) }, []);
  return { value: value === ABSENT ? undefined : value, faults };
}

function read(field, state, path) {
  const fault = (detail, isEmpty = false) => { state.faults.push({ pointer: pointer(path), detail, isEmpty }); return null; };
  if (field.kind === 'object') return readObject(field, state, path);
  if (field.kind === 'array') return field.items.length || field.empty !== 'absent' ? field.items.map((item, n) => read(item, state, [...path, n])) : ABSENT;
  if (field.text === '' || (field.kind !== 'text' && field.text.trim() === '')) return ofEmpty(field, fault);
  switch (field.kind) {
    case 'text': return field.text;
    case 'choice': return parseExact(field.text, new Set([field.text]));
    case 'json': return readJson(field.text, state.known, fault);
    default: return readNumber(field, fault);
  }
}

function ofEmpty({ kind, empty }, fault) {
  switch (empty) {
    case 'absent': return ABSENT;
    case 'null': return null;
    case 'text': return '';
    default: return fault(kind === 'choice' ? 'Choose one.' : 'This is needed.', true);
  }
}

function readNumber({ kind, text, asked }, fault) {
  const source = text.trim();
  const wrong = source === asked ? '' : numberFault(source, kind === 'integer');
  return wrong ? fault(wrong) : numberOf(source);
}

function readJson(text, known, fault) {
  try {
    return parseExact(text, known);
  } catch (error) {
    return fault(`This is not JSON that can be sent: ${error.message}`);
  }
}

/** An optional object of which nothing is written is left out whole. */
function readObject(field, state, path) {
  if (field.empty === 'absent' && isBlank(field)) return ABSENT;
  const all = field.members.map((member) => [member.name, read(member, state, [...path, member.name])]);
  return Object.fromEntries(all.filter(([, value]) => value !== ABSENT));
}

function isBlank({ kind, text, members, items, options }) {
  if (kind === 'object') return members.every(isBlank);
  return kind === 'array' ? !items.length : text === '' || options?.length === 1;
}

/** The field that a pointer leads to, else the nearest one around it: {pointer, isExact}. */
export function nearest(field, path) {
  const [at, found] = [[...path], []];
  let here = field;
  while (at.length) {
    const next = here.kind === 'object' ? here.members.find(({ name }) => name === at[0]) : here.kind === 'array' ? here.items[Number(at[0])] : undefined;
    if (!next) break;
    found.push(at.shift());
    here = next;
  }
  return { pointer: pointer(found), isExact: !at.length };
}
