// JSON without loss: a number stays as it was written, and text that could be read in two ways is refused.

/** A number whose literal is not how JavaScript would write it (1.50, 1e3): shown, and sent, as it was written. */
export class Literal {
  constructor(value, source) { Object.assign(this, { value, source }); }
  valueOf() { return this.value; }
  toJSON() { return this.value; }
  toString() { return this.source; }
}

export const isBranch = (value) => value !== null && typeof value === 'object' && !(value instanceof Literal);
export const isObject = (value) => isBranch(value) && !Array.isArray(value);
export const isNumber = (value) => typeof value === 'number' || value instanceof Literal;

/** The value of a number's literal. */
export const numberOf = (source) => (String(Number(source)) === source ? Number(source) : new Literal(Number(source), source));

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** Why a literal cannot be sent as a number, in words; '' where it can. contract, "Submit": which numbers JSON may hold. */
export function numberFault(source, isInteger = false) {
  if (!NUMBER.test(source)) return /^[-+]?[\d.,\s]+$/.test(source) ? 'Write the number like 1234.50: no separators, no leading zeros, no +.' : 'This is not a number.';
  const value = Number(source);
  if (!Number.isFinite(value)) return 'This number is too large.';
  if (/^-?\d+$/.test(source) && !Number.isSafeInteger(value)) return 'Whole numbers beyond 9007199254740991 are not exact in JSON: the action would need them as text.';
  if (isInteger && !Number.isInteger(value)) return 'This has to be a whole number.';
  return isExact(source, value) ? '' : `Programs would read this number as ${value}: write that, or fewer digits.`;
}

/** Whether a double holds every digit that was written. */
function isExact(source, value) {
  const digits = (text) => {
    const [, whole, fraction = '', exponent = '0'] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
    const all = (whole + fraction).replace(/^0+/, '');
    const kept = all.replace(/0+$/, '');
    return kept ? `${kept}e${Number(exponent) - fraction.length + (all.length - kept.length)}` : '0';
  };
  return digits(source) === digits(String(value));
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[-\d][\d.eE+-]*|true|false|null|[[\]{},:]/gs;
const DEEPEST = 32; // contract, "Submit"

/** Text -> value. Throws a SyntaxError in words for its writer. Numbers in `known` stand as they are. */
export function parseExact(text, known = new Set()) {
  JSON.parse(text); // from here on the tokens are in order
  const tokens = text.match(TOKEN);
  let at = 0;
  const read = (depth) => {
    if (depth > DEEPEST) throw new SyntaxError(`It is nested more than ${DEEPEST} levels deep.`);
    const token = tokens[at];
    at += 1;
    if (token === '[') return list(']', () => read(depth + 1));
    if (token === '{') return members(list('}', () => {
      const name = JSON.parse(tokens[at]);
      at += 2;
      return [name, read(depth + 1)];
    }));
    return /^[-\d]/.test(token) ? checkedNumber(token, known) : JSON.parse(token);
  };
  const list = (end, item) => {
    const all = [];
    while (tokens[at] !== end) {
      all.push(item());
      if (tokens[at] === ',') at += 1;
    }
    at += 1;
    return all;
  };
  return read(1);
}

function members(all) {
  const names = new Set();
  for (const [name] of all) {
    if (names.has(name)) throw new SyntaxError(`The name ${JSON.stringify(name)} is there twice.`);
    names.add(name);
  }
  return Object.fromEntries(all);
}

function checkedNumber(token, known) {
  const fault = known.has(token) ? '' : numberFault(token);
  if (fault) throw new SyntaxError(`${token}: ${fault}`);
  return numberOf(token);
}

/** Value -> text, each number as it was written; `indent` is what a level is indented with. */
export function write(value, indent = '', margin = '') {
  if (value instanceof Literal) return value.source;
  if (!isBranch(value)) return JSON.stringify(value);
  const inner = margin + indent;
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const parts = Array.isArray(value) ? value.map((item) => write(item, indent, inner))
    : Object.keys(value).filter((name) => value[name] !== undefined).map((name) => `${JSON.stringify(name)}:${indent && ' '}${write(value[name], indent, inner)}`);
  if (!parts.length) return open + close;
  return indent ? `${open}\n${parts.map((part) => inner + part).join(',\n')}\n${margin}${close}` : open + parts.join(',') + close;
}

/** The literals of all numbers in a value. */
export function literals(value) {
  if (isNumber(value)) return [String(value)];
  return isBranch(value) ? Object.values(value).flatMap(literals) : [];
}

/** RFC 6901: the names that lead to a value -> a pointer, and back. */
export const pointer = (path) => path.map((name) => `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
export const pathOf = (text) => (text === '' ? [] : text.slice(1).split('/').map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~')));
