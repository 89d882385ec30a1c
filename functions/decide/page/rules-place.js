// Where one is in the rules: the rule that the address names, and on a phone whether its pane is in front of the list, so that
// the device's way back leads from the one to the other.

const hashOf = (name) => (name ? `#rules/${encodeURIComponent(name)}` : '#rules');

/** The rule that the address names: '' none, null: it is not about rules. */
export function named() {
  const [area, name = ''] = location.hash.slice(1).split('/');
  if (area !== 'rules') return null;
  try { return decodeURIComponent(name); } catch { return ''; }
}

const isPushed = () => Boolean(history.state?.pane);

export function createPlace() {
  const narrow = matchMedia('(max-width: 52rem)');
  let [hash, wasPushed, isOpen] = [null, false, false];

  return {
    narrow,
    get isPaneOpen() { return isOpen; },
    openPane() {
      if (narrow.matches && !isOpen) {
        history.pushState({ inPage: true, pane: true }, '', location.hash || '#rules');
        wasPushed = true;
      }
      isOpen = true;
    },
    /** Back to the list; false where the address goes back by itself, and is followed then. */
    leavePane() {
      if (isPushed()) { history.back(); return false; }
      isOpen = false;
      return true;
    },
    hasMoved: () => hash !== location.hash || wasPushed !== isPushed(),
    /** Follows the address: `choose(name)` says whether there is such a rule. `isFirst`: the page was opened at it. */
    follow(choose, isFirst = false) {
      const pushed = isPushed();
      if (narrow.matches && pushed !== wasPushed) isOpen = pushed;
      wasPushed = pushed;
      if (hash === location.hash && !isFirst) return;
      hash = location.hash;
      if (choose(named()) && isFirst) isOpen = true;
    },
    /** Has the address name this rule. */
    name(rule) {
      const wanted = hashOf(rule);
      if (wanted === location.hash || hash !== location.hash) return;
      history.replaceState(history.state, '', wanted);
      hash = wanted;
    },
    forget() { hash = null; },
  };
}
