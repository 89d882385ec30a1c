// The draft of the rules outlives a reload and a new sign-in of the same person in this tab (sessionStorage), as what is typed
// elsewhere does; the next person at this page does not find it.

import { write } from './json.js';
import { readDocument } from './rules-places.js';

const KEY = 'relaytrace.rules';

/** `draft`: {version, created_at, rules, note}, the first two of the document that it is based on; null where there is nothing to keep. */
export function keepDraft(owner, draft) {
  try {
    if (draft) sessionStorage.setItem(KEY, write({ owner, ...draft }));
    else sessionStorage.removeItem(KEY);
  } catch { /* the store is full: the draft is kept in the page only */ }
}

/** What this person left, or null. */
export function keptDraft(owner) {
  const { value } = readDocument(sessionStorage.getItem(KEY) ?? '');
  return value?.owner === owner && Array.isArray(value.rules) && Number.isInteger(value.version) ? value : null;
}
