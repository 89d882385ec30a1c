// A client on the official TypeScript SDK, told what to do by lines of JSON on standard input.
//
//   node client.mjs '{"command": …, "args": […]}'     starts a server
//   node client.mjs '"http://127.0.0.1:…/mcp"'        reaches one
//
// {"id", "do": "tool" | "tools" | "resource" | "prompt" | "cancel", …} → {"id", "result" | "error"}
import { createInterface } from "node:readline";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const target = JSON.parse(process.argv[2]);
const client = new Client({ name: "node-client", version: "1" }, { capabilities: { elicitation: { form: {} } } });
client.setRequestHandler(ElicitRequestSchema, () => ({ action: "accept", content: { word: "yes" } }));
const transport =
  typeof target === "string"
    ? new StreamableHTTPClientTransport(new URL(target))
    : new StdioClientTransport({ ...target, stderr: "inherit" });
await client.connect(transport);
// Progress is noted as the transport has it: the SDK runs handlers of notifications later than those of responses, so its own
// callback misses progress that comes in one chunk with the response of its request, with and without a gateway.
const progress = [];
const take = transport.onmessage;
transport.onmessage = (message, extra) => {
  if (message.method === "notifications/progress") progress.push(message.params.message ?? message.params.progress);
  take(message, extra);
};

const calls = new Map();
const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

async function carryOut(order) {
  switch (order.do) {
    case "tool": {
      const abort = new AbortController();
      calls.set(order.id, abort);
      const onprogress = order.progress ? () => {} : undefined;
      const options = { signal: abort.signal, timeout: 120_000, onprogress };
      const result = await client.callTool({ name: order.name, arguments: order.arguments }, undefined, options);
      return { ...result, progress: progress.splice(0) };
    }
    case "tools":
      return (await client.listTools()).tools;
    case "resource":
      return client.readResource({ uri: order.uri });
    case "prompt":
      return client.getPrompt({ name: order.name, arguments: order.arguments });
    case "time": {
      const took = [];
      for (let i = 0; i < order.count; i += 1) {
        const begun = performance.now();
        await client.callTool({ name: order.name, arguments: order.arguments });
        took.push(performance.now() - begun);
      }
      return took;
    }
    case "cancel":
      calls.get(order.call).abort("taken back");
      return null;
  }
}

say({ id: 0, result: client.getServerVersion() });
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  carryOut(order).then(
    (result) => say({ id: order.id, result }),
    (error) => say({ id: order.id, error: String(error) }),
  );
}
await client.close();
