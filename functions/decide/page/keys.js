// The keyboard: J/K, Enter, X, A, R, E, T, /, Esc, ?, Ctrl/Cmd+Enter; with Shift, A and R are for what is selected. Letters never act while typing in a field,
// and can be switched off altogether. Latin letters count by what they type (Dvorak); a letter of another script
// counts by the place of its key, which is labelled with the Latin letter too.

const STORE = 'relaytrace.keys';
export const letterKeys = {
  get on() { return localStorage.getItem(STORE) !== 'off'; },
  set on(value) { localStorage.setItem(STORE, value ? 'on' : 'off'); },
};

const typing = (el) => Boolean(el?.closest?.('input:not([type=checkbox]), textarea, select, [contenteditable]'));
const pressable = (el) => Boolean(el?.closest?.('button, a, summary, input, textarea, select'));

function letterOf({ key, code }) {
  if (key.length !== 1) return key;
  const foreign = /^\p{L}$/u.test(key) && !/\p{Script=Latin}/u.test(key);
  return (foreign && /^Key([A-Z])$/.exec(code)?.[1].toLowerCase()) || key.toLowerCase();
}

export function listenToKeys(act) {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector('dialog[open]')) return;
    const { key, target } = event;
    const done = (handled) => { if (handled !== false) event.preventDefault(); };
    if (key === 'Enter' && (event.ctrlKey || event.metaKey) && !event.altKey) return done(act.send());
    if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
    if (key === 'Escape') return done(act.escape());
    if (typing(target)) return undefined;
    if (key === 'Enter') return pressable(target) ? undefined : done(act.enter());
    if (key === 'ArrowDown' || key === 'ArrowUp') return target.closest?.('#list') ? done(act.move(key === 'ArrowDown' ? 1 : -1)) : undefined;
    if (!letterKeys.on) return undefined;
    switch (letterOf(event)) {
      case 'j': return done(act.move(1));
      case 'k': return done(act.move(-1));
      case 'x': return event.repeat ? undefined : done(act.pick());
      case 'a': return event.repeat ? undefined : done(event.shiftKey ? act.approvePicked() : act.approve());
      case 'r': return event.repeat ? undefined : done(event.shiftKey ? act.rejectPicked() : act.reject());
      case 'e': return event.repeat ? undefined : done(act.edit());
      case 't': return event.repeat ? undefined : done(act.respond());
      case '/': return done(act.search());
      case '?': return done(act.help());
      default: return undefined;
    }
  });
}
