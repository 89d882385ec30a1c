// What is published: the compiled modules with their types, the README and the licence.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const folder = new URL("..", import.meta.url);

test("the package holds each entry with its types, the licence, and no tests", () => {
  const packed = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: folder });
  const [described] = Object.values(JSON.parse(packed));
  const names = described.files.map(({ path }) => path);
  const { exports } = JSON.parse(readFileSync(new URL("package.json", folder)));
  for (const entry of Object.values(exports).flatMap(Object.values)) assert.ok(names.includes(entry.slice(2)), entry);
  const others = names.filter((name) => !/^dist\/[\w-]+\.(js|js\.map|d\.ts)$/.test(name));
  assert.deepEqual(others.sort(), ["LICENSE", "README.md", "package.json"]);
  const license = readFileSync(new URL("LICENSE", folder), "utf8");
  assert.equal(license, readFileSync(new URL("../../LICENSE", folder), "utf8"));
});
