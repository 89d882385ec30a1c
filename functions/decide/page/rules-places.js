// A document of rules as text: read with every number as it was written, where in the text each of its parts stands, and
// where it cannot be read. One pass, so that what is said of a text is always said of its place.

import { numberOf, pointer } from './json.js';

const TOKEN = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[[\]{},:]/y;
const DEEPEST = 32; // contract, "Submit": what bodies may be

/** Text -> {value, places: pointer -> offset of the member's name or of the item}, or {words, offset} where it cannot be read. */
export function readDocument(text) {
  const reader = createReader(text);
  try {
    return { value: reader.read(), places: reader.places };
  } catch (fault) {
    if (!(fault instanceof Unreadable)) throw fault;
    return { words: fault.message, offset: fault.offset };
  }
}

class Unreadable extends Error {
  constructor(words, offset) { super(words); this.offset = offset; }
}

function createReader(text) {
  const places = new Map();
  let at = 0; // where the next token begins

  const fail = (words, offset = at) => { throw new Unreadable(words, offset); };
  function peek() {
    while (' \n\r\t'.includes(text[at] ?? 'x')) at += 1;
    TOKEN.lastIndex = at;
    return TOKEN.exec(text)?.[0] ?? '';
  }
  function take(accepted, words) {
    const token = peek();
    if (!accepted(token)) fail(at < text.length ? words : `The text ends here: ${words}`);
    at += token.length;
    return token;
  }
  const isText = (token) => token.startsWith('"');

  function value(here, depth) {
    if (depth > DEEPEST) fail(`nested more than ${DEEPEST} levels deep`);
    const token = take((one) => one !== '' && !']},:'.includes(one), 'a value is expected: text in "quotes", a number, true, false, null, a list or an object');
    if (!places.has(here)) places.set(here, at - token.length);
    if (token === '[') return list(here, depth);
    if (token === '{') return object(here, depth);
    return /^[-\d]/.test(token) ? numberOf(token) : JSON.parse(token);
  }

  /** Whether another item follows. */
  function goesOn(end, words) {
    return take((token) => token === ',' || token === end, words) === ',';
  }

  function list(here, depth) {
    const all = [];
    if (peek() === ']') { at += 1; return all; }
    do all.push(value(`${here}/${all.length}`, depth + 1)); while (goesOn(']', 'a comma or ] is expected'));
    return all;
  }

  function object(here, depth) {
    const all = new Map();
    if (peek() === '}') { at += 1; return {}; }
    do {
      const name = JSON.parse(take(isText, 'a name in "quotes" is expected'));
      if (all.has(name)) fail(`the name ${JSON.stringify(name)} is there twice`, at - 1);
      const inner = here + pointer([name]);
      places.set(inner, at - 1);
      take((token) => token === ':', 'a colon is expected');
      all.set(name, value(inner, depth + 1));
    } while (goesOn('}', 'a comma or } is expected'));
    return Object.fromEntries(all);
  }

  return {
    places,
    read() {
      const whole = value('', 1);
      if (peek() !== '' || at < text.length) fail('nothing more is expected');
      return whole;
    },
  };
}

/** Where a pointer leads in the text, or the nearest part around it that is there. */
export function placeOf(places, path) {
  let here = path;
  while (here && !places.has(here)) here = here.slice(0, here.lastIndexOf('/'));
  return places.get(here) ?? 0;
}

/** The line of an offset, from 1. */
export function lineOf(text, offset) {
  let line = 1;
  for (let at = text.indexOf('\n'); at >= 0 && at < offset; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}
