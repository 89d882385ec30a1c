// A client on the official TypeScript SDK with a token that ends: on a 401 it reads another one from a file and goes on.
//
//   node refreshing.mjs URL FILE
//
// Calls `balance`, says so, waits for a line on standard input, calls `balance` and `pay`, and says what it got.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, file] = process.argv.slice(2);
let token = readFileSync(file, "utf8");
const challenges = [];
const authorized = async (input, init) => {
  const sent = () => fetch(input, { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), authorization: `Bearer ${token}` } });
  const response = await sent();
  if (response.status !== 401) return response;
  challenges.push(response.headers.get("www-authenticate"));
  await response.body?.cancel();
  token = readFileSync(file, "utf8");
  return sent();
};
const client = new Client({ name: "refreshing", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: authorized }));
const call = async (name, args) => (await client.callTool({ name, arguments: args })).content[0].text;
console.log(JSON.stringify(await call("balance", { account: "a" })));
const lines = createInterface({ input: process.stdin });
await new Promise((resolve) => lines.once("line", resolve));
const again = await call("balance", { account: "b" });
console.log(JSON.stringify({ again, paid: await call("pay", { to: "maria", amount: 12.5 }), challenges }));
lines.close();
await client.close();
