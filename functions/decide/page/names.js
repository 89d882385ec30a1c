// Names of operators who are known by their ids only: asked for once each, and drawn when they are there.

import * as api from './api.js';

const names = new Map(); // id -> name, '' while it is not known
let onLearned = () => {};
export function onNames(fn) { onLearned = fn; }

/** The name of an operator, or the id until it is known. */
export function nameOf(id) {
  if (!names.has(id)) learn(id);
  return names.get(id) || id;
}

async function learn(id) {
  names.set(id, '');
  let found;
  try { found = await api.getOperators(id); } catch { return; } // the id has to do
  for (const person of found) if (person.name) names.set(person.id, String(person.name));
  if (names.get(id)) onLearned();
}
