// From a JSON Schema and a value to the fields of a form. A field is plain data (it is kept with the drafts):
//   {kind, name, title, help, empty, text} and, by kind, {options} {members} {items, blank}
// kind: text, number, integer, choice, object, array, or json for all that the others cannot say exactly.
// empty: what an empty text means: text (''), null, absent (the member is left out) or missing (a fault).

import { isNumber, isObject, write } from './json.js';

const MOST_FIELDS = 200;
const DEEPEST = 8;
const MOST_OPTIONS = 200;
/** What a text field of a browser would change by itself (line ends) or cannot hold. */
const UNFIT = /[\u0000-\u0008\u000B-\u001F\u007F\u2028\u2029\uD800-\uDFFF]/u;
/** Keywords under which a value's shape is more than a field can say. */
const BEYOND = ['not', 'if', 'dependentSchemas', 'patternProperties', 'prefixItems', 'contains', 'propertyNames', '$dynamicRef'];

const own = (object, name) => (isObject(object) && Object.hasOwn(object, name) ? object[name] : undefined);

/** The form of a value; `value` undefined: nothing is written yet. A schema that says nothing leaves it to the value. */
export function fieldsOf(schema, value) {
  return field({ root: schema, left: MOST_FIELDS }, schema, value, { name: '', required: true, depth: 0 });
}

/** A whole value as JSON text. */
export const jsonField = (value, more = {}) => ({ kind: 'json', name: '', title: '', help: '', empty: 'missing', text: value === undefined ? '' : write(value, '  '), ...more });

function field(budget, given, value, { name, required, depth }) {
  budget.left -= 1;
  const { schema, nullable } = resolve(budget.root, given);
  const empty = value === '' ? 'text' : value === null || (nullable && required) ? 'null' : required ? 'missing' : 'absent';
  const base = { name, title: textOf(schema.title), help: help(schema), empty };
  if (budget.left < 0 || depth > DEEPEST) return jsonField(value, base);
  const make = KINDS[kindOf(schema, value)];
  return make?.(budget, schema, value, base, depth) ?? jsonField(value, base);
}

/** Follows local references and unwraps what says only "or null"; {} where nothing can be said. */
function resolve(root, given) {
  let [schema, nullable] = [isObject(given) ? given : {}, false];
  for (let step = 0; step < 32; step += 1) {
    const or = own(schema, 'anyOf') ?? own(schema, 'oneOf');
    const others = Array.isArray(or) ? or.filter((one) => own(one, 'type') !== 'null') : [];
    const all = own(schema, 'allOf');
    const inner = typeof schema.$ref === 'string' ? lookUp(root, schema.$ref)
      : Array.isArray(or) && others.length === 1 ? others[0]
        : Array.isArray(all) && all.length === 1 ? all[0] : null;
    if (!isObject(inner)) break;
    nullable ||= Array.isArray(or) && others.length < or.length;
    const { $ref, anyOf, oneOf, allOf, ...outer } = schema;
    schema = { ...inner, ...outer };
  }
  const types = own(schema, 'type');
  if (Array.isArray(types) && types.length === 2 && types.includes('null')) {
    return { schema: { ...schema, type: types.find((type) => type !== 'null') }, nullable: true };
  }
  return { schema, nullable };
}

function lookUp(root, reference) {
  if (!reference.startsWith('#')) return null;
  let found = root;
  try {
    for (const part of decodeURIComponent(reference.slice(1)).split('/').slice(1)) found = own(found, part.replaceAll('~1', '/').replaceAll('~0', '~'));
  } catch { return null; }
  return found;
}

function kindOf(schema, value) {
  if (BEYOND.some((keyword) => keyword in schema) || schema.$ref !== undefined) return 'json';
  if (options(schema)) return 'choice';
  if (schema.anyOf || schema.oneOf || schema.allOf) return 'json';
  if (schema.type === undefined) return own(schema, 'properties') ? 'object' : ofValue(value);
  return { string: 'text', number: 'number', integer: 'integer', boolean: 'choice', object: 'object', array: 'array' }[schema.type] ?? 'json';
}

function ofValue(value) {
  if (typeof value === 'string') return 'text';
  if (typeof value === 'boolean') return 'choice';
  if (isNumber(value)) return 'number';
  return Array.isArray(value) ? 'array' : isObject(value) ? 'object' : 'json';
}

/** What can be chosen, as JSON texts; null where it is no choice. */
function options(schema) {
  const titled = own(schema, 'oneOf') ?? own(schema, 'anyOf');
  const values = Array.isArray(schema.enum) ? schema.enum
    : schema.const !== undefined ? [schema.const]
      : Array.isArray(titled) && titled.length && titled.every((one) => own(one, 'const') !== undefined) ? titled.map((one) => one.const) : null;
  if (!values?.length || values.length > MOST_OPTIONS) return null;
  return [...new Set(values.map((value) => write(value)))];
}

const KINDS = {
  text(_budget, schema, value, base) {
    if (value !== undefined && value !== null && typeof value !== 'string') return null;
    if (UNFIT.test(value ?? '')) return null;
    const isLong = value === undefined ? !(schema.maxLength <= 200) : (value ?? '').length > 80 || (value ?? '').includes('\n');
    return { kind: 'text', isLong, ...base, empty: base.empty === 'missing' ? 'text' : base.empty, text: value ?? '' };
  },
  number: (_budget, _schema, value, base) => number('number', value, base),
  integer: (_budget, _schema, value, base) => number('integer', value, base),
  choice(_budget, schema, value, base) {
    const all = options(schema) ?? ['true', 'false'];
    const text = value === undefined ? (all.length === 1 && base.empty === 'missing' ? all[0] : '') : write(value);
    if (text && !all.includes(text)) {
      if (base.empty !== 'null' || text !== 'null') return null;
      return { kind: 'choice', ...base, options: all, text: '' };
    }
    return { kind: 'choice', ...base, options: all, text };
  },
  object(budget, schema, value, base, depth) {
    if (value !== undefined && !isObject(value)) return null;
    const properties = own(schema, 'properties') ?? {};
    if (!isObject(properties)) return null;
    const names = [...new Set([...Object.keys(properties), ...Object.keys(value ?? {})])];
    if (!names.length && (!value || schema.additionalProperties !== false)) return null; // any object
    if (names.length > budget.left) return null;
    const needed = Array.isArray(schema.required) ? schema.required : [];
    const free = Object.keys(properties).length === 0; // nothing is said: each member stays
    const members = names.map((name) => {
      const described = own(properties, name);
      const extra = isObject(schema.additionalProperties) ? schema.additionalProperties : {};
      return field(budget, described ?? extra, own(value, name), { name, required: needed.includes(name) || free, depth: depth + 1 });
    });
    return { kind: 'object', ...base, ...(value && { empty: 'text' }), members };
  },
  array(budget, schema, value, base, depth) {
    if (value !== undefined && !Array.isArray(value)) return null;
    if ((value?.length ?? 0) > budget.left || isObject(own(schema, 'items')) === false && schema.items !== undefined) return null;
    const one = (item) => field(budget, schema.items, item, { name: '', required: true, depth: depth + 1 });
    const items = (value ?? []).map(one);
    if (schema.items === undefined && items.some(({ kind }) => kind === 'array' || kind === 'object')) return null;
    const [like] = items;
    const blank = schema.items ? one(undefined) : { ...(like ?? jsonField()), name: '', text: '', empty: like?.kind === 'text' ? 'text' : 'missing' };
    return { kind: 'array', ...base, ...(value && { empty: 'text' }), items, blank };
  },
};

function number(kind, value, base) {
  if (value !== undefined && value !== null && !isNumber(value)) return null;
  const text = value === undefined || value === null ? '' : String(value);
  return { kind, ...base, text, asked: text };
}

const textOf = (value) => (typeof value === 'string' ? value.slice(0, 200) : '');

/** What the schema asks for beyond the type, as text. */
function help(schema) {
  const said = [];
  const say = (keyword, words) => { if (['number', 'string'].includes(typeof schema[keyword]) || isNumber(schema[keyword])) said.push(words(String(schema[keyword]))); };
  say('minimum', (n) => `at least ${n}`);
  say('exclusiveMinimum', (n) => `more than ${n}`);
  say('maximum', (n) => `at most ${n}`);
  say('exclusiveMaximum', (n) => `less than ${n}`);
  say('multipleOf', (n) => `a multiple of ${n}`);
  say('minLength', (n) => `at least ${n} characters`);
  say('maxLength', (n) => `at most ${n} characters`);
  say('minItems', (n) => `at least ${n} items`);
  say('maxItems', (n) => `at most ${n} items`);
  say('format', (name) => name);
  say('pattern', (pattern) => `of the form ${pattern}`);
  const limits = said.join(', ');
  return [typeof schema.description === 'string' ? schema.description : '', limits && limits[0].toUpperCase() + limits.slice(1)].filter(Boolean).join(' · ').slice(0, 1000);
}
