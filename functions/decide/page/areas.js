// What is looked at in place of the queue, for administrators: the rules, or the report. Each follows the address by itself.

import { byId, setText } from './dom.js';

const SKIP = { rules: 'Skip to the rule', report: 'Skip to the report' };

export function createAreas({ rules, report }) {
  const open = () => (rules.isOpen() ? rules : report.isOpen() ? report : null);
  return {
    /** Whether one of them is looked at. */
    isOpen: () => open() !== null,
    focus: () => open().focus(),
    /** Follows the address, the person and the connection; the name of the area that is looked at, or ''. */
    draw(how) {
      const names = { rules: rules.draw(how), report: report.draw(how) };
      const name = Object.keys(names).find((one) => names[one]) ?? '';
      setText(byId('skip'), SKIP[name] ?? 'Skip to the request');
      return name;
    },
    /** What a key does in the queue, and in the rules; in the report none does. `isShut()`: nobody may see the queue. */
    whenIn: (isShut) => (fn, inRules = () => false) => (...args) => {
      if (rules.isOpen()) return inRules(...args);
      return open() || isShut() ? false : fn(...args);
    },
  };
}
