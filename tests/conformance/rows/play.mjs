// One process of one agent on Node, as play.py is for Python.
//
//     node play.mjs FILE:FUNCTION < plan.json

import { Cannot } from "./plan.mjs";

const [name, way] = process.argv[2].split(":");
const row = await import(`./${name}`);
try {
  const [paused, told] = await row[way]();
  console.log(JSON.stringify({ paused, told }));
} catch (error) {
  if (!(error instanceof Cannot)) throw error;
  console.log(JSON.stringify({ cannot: error.message }));
}
