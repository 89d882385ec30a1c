// What was typed and not sent yet, for each request. It outlives a reload and a new sign-in of the same person in this
// tab (sessionStorage), and nothing else: the next person at this page does not find it.

const KEY = 'relaytrace.drafts';
// A rejection's reason never slips into an approval. `forms`: the fields of an edit and of a response; `written`: the
// same as text.
const EMPTY = { mode: '', for: null, approve: '', reject: '', edit: '', confirm: '', forms: {}, written: {} };

let owner = '';
let drafts = new Map();

/** The drafts of this person; another's are dropped. */
export function openDrafts(sub) {
  if (sub === owner) return;
  owner = sub;
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(KEY)); } catch { /* not ours: dropped */ }
  drafts = new Map(kept?.owner === sub && Array.isArray(kept.drafts) ? kept.drafts.map(([id, draft]) => [id, { ...EMPTY, ...draft }]) : []);
  keep();
}

function keep() {
  // A P1's confirmation is typed anew: it says that the action is read now.
  const worth = [...drafts].filter(([, draft]) => textOf(draft)).map(([id, draft]) => [id, { ...draft, confirm: '' }]);
  try {
    if (worth.length) sessionStorage.setItem(KEY, JSON.stringify({ owner, drafts: worth }));
    else sessionStorage.removeItem(KEY);
  } catch { /* more than a browser keeps: it lasts as long as the page */ }
}

const textOf = ({ approve, reject, edit, written }) => [written.edit, written.respond, reject || approve || edit].filter(Boolean).join('\n').trim();

export const draft = (id) => drafts.get(id) ?? EMPTY;

export function changeDraft(id, change) {
  drafts.set(id, { ...draft(id), ...change });
  keep();
}

export function dropDraft(id) {
  drafts.delete(id);
  keep();
}

export function dropDrafts() {
  drafts.clear();
  keep();
}

/** What was typed, as it is shown when someone else decided first. */
export const typedText = (id) => textOf(draft(id));
