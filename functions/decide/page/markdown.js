// A small subset of Markdown, as DOM nodes: headings, paragraphs, lists, tables, quotes, code, emphasis, links.
// No HTML, no images (their target is shown instead), no link whose target cannot be read beside it.

import { h, safeText } from './dom.js';

const MAX_DEPTH = 5;
const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const ITEM = /^( {0,8})([-*+]|\d{1,9}[.)])\s+(.*)$/;

export function renderMarkdown(text) {
  return blocks(String(text).replace(/\r\n?/g, '\n').replaceAll('\t', '    ').split('\n'), 0);
}

function blocks(lines, depth) {
  const out = [];
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    let m;
    if (!line.trim()) { i += 1; continue; }
    if ((m = FENCE.exec(line))) {
      const body = [];
      for (i += 1; i < lines.length && !lines[i].trim().startsWith(m[1]); i += 1) body.push(lines[i]);
      i += 1;
      out.push(h('pre', { tabindex: '0' }, h('code', {}, safeText(body.join('\n'), true))));
    } else if ((m = /^ {0,3}(#{1,6})\s+(.*)$/.exec(line))) {
      out.push(h('p', { class: m[1].length < 3 ? 'md-h1' : 'md-h2' }, inline(m[2].replace(/\s#+\s*$/, ''), 0)));
      i += 1;
    } else if (/^ {0,3}([-*_])( *\1){2,} *$/.test(line)) {
      out.push(h('hr'));
      i += 1;
    } else if (/^ {0,3}>/.test(line) && depth < MAX_DEPTH) {
      const inner = [];
      for (; i < lines.length && /^ {0,3}>/.test(lines[i]); i += 1) inner.push(lines[i].replace(/^ {0,3}> ?/, ''));
      out.push(h('blockquote', {}, blocks(inner, depth + 1)));
    } else if (ITEM.test(line) && depth < MAX_DEPTH) {
      const [list, next] = listAt(lines, i, depth);
      out.push(list);
      i = next;
    } else if (/^ {4}/.test(line)) {
      const body = [];
      for (; i < lines.length && (/^ {4}/.test(lines[i]) || !lines[i].trim()); i += 1) body.push(lines[i].slice(4));
      out.push(h('pre', { tabindex: '0' }, h('code', {}, safeText(body.join('\n').trimEnd(), true))));
    } else if (isTable(line, lines[i + 1] ?? '')) {
      const rows = [];
      const [head, rule] = [line, lines[i + 1]];
      for (i += 2; i < lines.length && lines[i].trim() && !startsBlock(lines[i], depth); i += 1) rows.push(lines[i]);
      out.push(table(head, rule, rows));
    } else {
      const para = [];
      do { para.push(lines[i].trim()); i += 1; } while (i < lines.length && lines[i].trim() && !startsBlock(lines[i], depth));
      out.push(h('p', {}, para.flatMap((l, n) => (n ? [h('br'), ...inline(l, 0)] : inline(l, 0)))));
    }
  }
  return out;
}

const startsBlock = (line, depth) => FENCE.test(line) || /^ {0,3}#{1,6}\s/.test(line) || (depth < MAX_DEPTH && (/^ {0,3}>/.test(line) || ITEM.test(line)));

const RULE = /^ {0,3}\|?( *:?-+:? *\|)* *:?-+:? *\|? *$/;
const cells = (row) => row.trim().replace(/^\||(?<!\\)\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
// A number, which may have spaces in it, perhaps with a currency or unit.
const AMOUNT = /^[^\p{L}\d]*(\p{Lu}{2,3} ?)?\d[\d\s.,'’:/-]*( ?\S{1,4})?$/u;
const isTable = (head, rule) => head.includes('|') && RULE.test(rule) && cells(head).length === cells(rule).length;

function table(head, rule, rows) {
  const columns = cells(rule).map((cell) => (/:$/.test(cell) ? /^:/.test(cell) ? 'center' : 'end' : null));
  const line = (row, tag) => {
    const given = cells(row);
    return h('tr', {}, columns.map((align, n) => {
      const text = given[n] ?? '';
      const classes = [align, AMOUNT.test(text) ? 'amount' : ''].filter(Boolean).join(' ');
      return h(tag, { class: classes || null, scope: tag === 'th' ? 'col' : null }, inline(text, 0));
    }));
  };
  // Words and numbers never break in a table, so it may be wider than its place: then it scrolls, by keyboard too.
  return h('table', { role: 'table', tabindex: '0' }, h('thead', {}, line(head, 'th')), h('tbody', {}, rows.map((row) => line(row, 'td'))));
}

function listAt(lines, start, depth) {
  const [, indent, marker] = ITEM.exec(lines[start]);
  const ordered = /\d/.test(marker);
  const list = ordered ? h('ol', { start: parseInt(marker, 10) }) : h('ul');
  let i = start;
  while (i < lines.length) {
    const m = ITEM.exec(lines[i]);
    if (!m || m[1].length > indent.length + 1 || /\d/.test(m[2]) !== ordered) break;
    const inner = [m[3]];
    for (i += 1; i < lines.length; i += 1) {
      const deeper = /^ */.exec(lines[i])[0].length > m[1].length;
      if (lines[i].trim() ? !deeper : !(lines[i + 1] ?? '').startsWith(' '.repeat(m[1].length + 2))) break;
      inner.push(lines[i].slice(Math.min(m[1].length + 2, /^ */.exec(lines[i])[0].length)));
    }
    const body = blocks(inner, depth + 1);
    list.append(h('li', {}, body.length && body[0].tagName === 'P' && !body[0].className ? [...body[0].childNodes, ...body.slice(1)] : body));
    while (i < lines.length && !lines[i].trim() && ITEM.test(lines[i + 1] ?? '')) i += 1;
  }
  return [list, i];
}

/** A link with its target in sight, or its own text where the target is not one to follow. */
function link(label, target, depth) {
  let url = null;
  try { url = new URL(target); } catch { /* not absolute: not followed */ }
  const plain = label.trim();
  if (!url || !['https:', 'http:', 'mailto:'].includes(url.protocol) || url.username || url.password) {
    return plain === target ? safeText(target, true) : [...inline(plain, depth), ' (', ...safeText(target, true), ')'];
  }
  const shown = url.href.replace(/^mailto:/, '');
  const same = plain === target || plain === shown || `${plain}/` === shown;
  const a = h('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer nofollow', referrerpolicy: 'no-referrer' },
    same ? safeText(shown, true) : inline(plain, MAX_DEPTH));
  return same ? [a] : [a, ' ', h('span', { class: 'target' }, '(', ...safeText(shown, true), ')')];
}

const EMPHASIS = [['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['*', 'em'], ['_', 'em']];

function inline(text, depth) {
  const out = [];
  let plain = '';
  const flush = () => { if (plain) out.push(...safeText(plain)); plain = ''; };
  let i = 0;
  while (i < text.length) {
    const found = depth < MAX_DEPTH ? special(text, i, depth) : null;
    if (found) { flush(); out.push(...found.nodes); i = found.end; continue; }
    if (text[i] === '\\' && /[!-/:-@[-`{-~]/.test(text[i + 1] ?? '')) i += 1;
    plain += text[i];
    i += 1;
  }
  flush();
  return out;
}

/** What starts at `i`, if anything: {nodes, end}. */
function special(text, i, depth) {
  const c = text[i];
  if (c === '`') {
    const ticks = /^`+/.exec(text.slice(i, i + 8))[0];
    const close = text.indexOf(ticks, i + ticks.length);
    if (close < 0) return null;
    return { nodes: [h('code', {}, safeText(text.slice(i + ticks.length, close).trim() || ' ', true))], end: close + ticks.length };
  }
  if (c === '[' || (c === '!' && text[i + 1] === '[')) {
    const open = c === '!' ? i + 1 : i;
    const mid = text.indexOf('](', open);
    if (mid < 0 || mid - open > 500) return null;
    const close = text.indexOf(')', mid);
    if (close < 0) return null;
    const label = text.slice(open + 1, mid);
    if (/[[\]]/.test(label)) return null;
    const target = text.slice(mid + 2, close).trim().split(/\s/)[0].replace(/^<|>$/g, '');
    if (c !== '!') return { nodes: link(label, target, depth + 1), end: close + 1 };
    return { nodes: [h('span', { class: 'target' }, '[image not loaded: ', ...safeText(`${label} ${target}`, true), ']')], end: close + 1 };
  }
  if (c === 'h' || c === '<') {
    const m = /^<?(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])>?/.exec(text.slice(i, i + 2000));
    if (m && !/\w/.test(text[i - 1] ?? ' ')) return { nodes: link(m[1], m[1], depth), end: i + m[0].length };
    return null;
  }
  for (const [mark, tag] of EMPHASIS) {
    if (!text.startsWith(mark, i) || /\s/.test(text[i + mark.length] ?? ' ')) continue;
    if (mark[0] === '_' && /\w/.test(text[i - 1] ?? ' ')) continue;
    const close = text.indexOf(mark, i + mark.length + 1);
    if (close < 0 || /\s/.test(text[close - 1])) continue;
    if (mark[0] === '_' && /\w/.test(text[close + mark.length] ?? ' ')) continue;
    return { nodes: [h(tag, {}, inline(text.slice(i + mark.length, close), depth + 1))], end: close + mark.length };
  }
  return null;
}
