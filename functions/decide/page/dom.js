// Building DOM nodes without ever parsing HTML, and showing text from agents so that
// nothing in it can hide: control, bidirectional and invisible characters become visible marks.

/** h('p', {class: 'x', onclick: fn}, 'text', node, [more]) -> element. */
export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') el.addEventListener(key.slice(2), value);
    else if (key === 'data') Object.assign(el.dataset, value);
    else el.setAttribute(key, value === true ? '' : String(value));
  }
  el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

/** For links: a plain click does `fn` here; with a modifier it opens a tab, as the browser does. */
export const onPlainClick = (fn) => (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  fn(event);
};

export const byId = (id) => document.getElementById(id);

/** Sets text only when it differs, so that nothing is repainted or announced twice. */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

export function setAttr(el, name, value) {
  if (value === null || value === undefined || value === false) el.removeAttribute(name);
  else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, String(value));
}

// In prose: what reorders, breaks or smuggles text. In exact values: also everything that cannot be seen.
const PROSE = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u061C\u2028-\u202E\u2066-\u206F\uFEFF\uFFF9-\uFFFB\u{E0000}-\u{E0FFF}]+/u;
const EXACT = /[\u0000-\u0008\u000B-\u001F\u007F-\u00A0\u00AD\u034F\u061C\u115F\u1160\u1680\u17B4\u17B5\u180B-\u180F\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\u3164\uFE00-\uFE0F\uFEFF\uFFA0\uFFF9-\uFFFB\u{E0000}-\u{E0FFF}]+/u;

const NAMES = {
  '202A': 'left-to-right embedding', '202B': 'right-to-left embedding', '202C': 'end of direction change',
  '202D': 'left-to-right override', '202E': 'right-to-left override', '2066': 'left-to-right isolate',
  '2067': 'right-to-left isolate', '2068': 'first strong isolate', '2069': 'end of isolate',
  '200B': 'zero width space', '200D': 'zero width joiner', '00A0': 'no-break space', '000D': 'carriage return',
};
const code = (ch) => ch.codePointAt(0).toString(16).toUpperCase().padStart(4, '0');

/** Text of an agent as nodes; `exact` also marks what is merely invisible. */
export function safeText(text, exact = false) {
  const pattern = exact ? EXACT : PROSE;
  const nodes = [];
  let rest = String(text);
  for (let m = pattern.exec(rest); m; m = pattern.exec(rest)) {
    if (m.index) nodes.push(rest.slice(0, m.index));
    const run = [...m[0]];
    const shown = [...new Set(run.map(code))];
    const label = run.length <= 3 ? run.map((c) => `U+${code(c)}`).join(' ')
      : `${run.length.toLocaleString('en')} hidden characters: ${shown.slice(0, 4).map((c) => `U+${c}`).join(' ')}${shown.length > 4 ? ' …' : ''}`;
    const named = shown.slice(0, 4).map((c) => NAMES[c] ?? `U+${c}`).join(', ');
    nodes.push(h('span', { class: 'hidden-char', title: `Hidden character: ${named}` }, label));
    rest = rest.slice(m.index + m[0].length);
  }
  if (rest) nodes.push(rest);
  return nodes;
}

/** The same as plain text, for places that hold no elements. */
export const markedText = (text) => safeText(text, true).map((part) => (typeof part === 'string' ? part : `[${part.textContent}]`)).join('');

/** Whether an exact value holds what cannot be seen. */
export const hasHidden = (text) => EXACT.test(text);

/** The same, isolated so that its direction cannot reach its neighbours. */
export const isolated = (text, props = {}, exact = false) => h('bdi', props, safeText(text, exact));

/** A button that copies what `get` returns and says so. */
export function copyButton(label, get, props = {}) {
  const button = h('button', { type: 'button', class: 'quiet copy', ...props }, label);
  let back = 0;
  button.addEventListener('click', async () => {
    let said = 'Copied';
    try { await navigator.clipboard.writeText(get()); } catch { said = 'Could not copy'; }
    button.textContent = said;
    const region = byId('announce');
    if (region) region.textContent = said;
    clearTimeout(back);
    back = setTimeout(() => { button.textContent = label; }, 2000);
  });
  return button;
}
