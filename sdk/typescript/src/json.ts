/** The JSON profile of the contract ("JSON profile", "Action digest"): what may be sent, and its canonical form. */

import { UnsupportedValue } from "./errors.js";

export type Json = string | number | boolean | null | Json[] | JsonObject;
export type JsonObject = { [member: string]: Json };

/** Deepest nesting that the service takes. */
const MAX_DEPTH = 32;

/**
 * An own, frozen copy of `value` that holds nothing but JSON, so that nobody changes it between the approval and the
 * run. Members that are `undefined` are left out, as `JSON.stringify` does.
 *
 * @throws {UnsupportedValue} with a JSON pointer, for what JSON would change or lose without a word.
 */
export function snapshot<T>(value: T, pointer = ""): T {
  return copy(value, pointer, MAX_DEPTH) as T;
}

function copy(value: unknown, pointer: string, depth: number): unknown {
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return text(value, pointer);
    case "number":
      return number(value, pointer);
    case "object":
      if (value === null) return null;
      if (depth === 0) throw new UnsupportedValue(pointer, `is nested deeper than ${MAX_DEPTH} levels`);
      return Object.freeze(
        Array.isArray(value)
          ? Array.from(value, (item, index) => copy(item, `${pointer}/${index}`, depth - 1))
          : members(value, pointer, depth),
      );
    case "bigint":
      throw new UnsupportedValue(pointer, "is a BigInt: send it as a string");
    default:
      throw new UnsupportedValue(pointer, `is ${typeof value}, which JSON cannot hold`);
  }
}

function members(value: object, pointer: string, depth: number): JsonObject {
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    throw new UnsupportedValue(
      pointer,
      `is a ${prototype.constructor?.name ?? "class instance"}: send text or a plain object`,
    );
  }
  const copied: JsonObject = {};
  for (const [name, member] of Object.entries(value)) {
    const at = `${pointer}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    text(name, at);
    // As a property of its own, also if it is called __proto__.
    if (member !== undefined) {
      const own = { value: copy(member, at, depth - 1) as Json, enumerable: true, writable: true, configurable: true };
      Object.defineProperty(copied, name, own);
    }
  }
  return copied;
}

function text(value: string, pointer: string): string {
  if (value.includes("\0")) throw new UnsupportedValue(pointer, "holds U+0000: leave it out, or send base64");
  if (!value.isWellFormed()) throw new UnsupportedValue(pointer, "holds a lone surrogate: it is not valid Unicode");
  return value;
}

function number(value: number, pointer: string): number {
  if (!Number.isFinite(value)) throw new UnsupportedValue(pointer, `is ${value}, which JSON cannot hold`);
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new UnsupportedValue(
      pointer,
      `is ${value}, beyond ±(2^53 − 1) where integers are no longer exact: send it as a string`,
    );
  }
  return value;
}

/** The canonical form (RFC 8785). ECMAScript's own texts of numbers and strings are those of the RFC. */
export function canonical(value: Json): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  // The default order of sort() is that of UTF-16 code units, as in the RFC.
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name] as Json)}`).join()}}`;
}

/** The exact thing that an agent wants to do. */
export interface Action {
  type: string;
  arguments: JsonObject;
}

/** `sha256:` and the SHA-256 of the action's canonical form. */
export async function actionDigest({ type, arguments: args }: Action): Promise<string> {
  return `sha256:${await sha256(canonical({ type, arguments: args }))}`;
}

/** In hexadecimal. */
export async function sha256(text: string): Promise<string> {
  return Buffer.from(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toString("hex");
}

/** Whether two texts are equal, both being in canonical form. */
export function sameJson(one: Json, other: Json): boolean {
  return canonical(one) === canonical(other);
}
