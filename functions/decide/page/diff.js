// What differs between two JSON values, as a list of the smallest parts that do.

import { isBranch } from './json.js';
import { canonical } from './digest.js';

const isList = Array.isArray;

/** -> [{path, kind: 'changed' | 'added' | 'removed', from, to}] in the order of the first value, then of the second. */
export function differences(from, to, path = []) {
  if (isBranch(from) && isBranch(to) && isList(from) === isList(to)) return isList(from) ? ofLists(from, to, path) : ofObjects(from, to, path);
  return same(from, to) ? [] : [{ path, kind: 'changed', from, to }];
}

const same = (a, b) => canonical(a) === canonical(b);

function ofObjects(from, to, path) {
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])];
  return names.flatMap((name) => {
    const at = [...path, name];
    if (!Object.hasOwn(to, name)) return [{ path: at, kind: 'removed', from: from[name] }];
    if (!Object.hasOwn(from, name)) return [{ path: at, kind: 'added', to: to[name] }];
    return differences(from[name], to[name], at);
  });
}

/** Items are matched from both ends, so that one that is gone does not change all after it. */
function ofLists(from, to, path) {
  const most = Math.min(from.length, to.length);
  let [head, tail] = [0, 0];
  while (head < most && same(from[head], to[head])) head += 1;
  while (tail < most - head && same(from[from.length - 1 - tail], to[to.length - 1 - tail])) tail += 1;
  const all = [];
  const [ends, ended] = [from.length - tail, to.length - tail];
  for (let n = head; n < Math.max(ends, ended); n += 1) {
    if (n >= ended) all.push({ path: [...path, n], kind: 'removed', from: from[n] });
    else if (n >= ends) all.push({ path: [...path, n], kind: 'added', to: to[n] });
    else all.push(...differences(from[n], to[n], [...path, n]));
  }
  return all;
}
