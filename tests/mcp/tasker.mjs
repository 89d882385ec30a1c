// A client on the official TypeScript SDK that waits for calls by tasks (experimental, revision 2025-11-25), told what to do
// by lines of JSON on standard input.
//
//   node tasker.mjs '{"command": …, "args": […]}' | '"http://127.0.0.1:…/mcp"'
//
// {"id", "do": "stream" | "begin" | "get" | "result" | "cancel" | "list" | "server" | "tools" | "call", …} → {"id", "result" | "error"}
import { createInterface } from "node:readline";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, CreateTaskResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const target = JSON.parse(process.argv[2]);
const client = new Client({ name: "tasker", version: "1" }, { capabilities: { elicitation: { form: {} } } });
const asked = [];
client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
  asked.push(params);
  return { action: "accept", content: { word: "yes" } };
});
await client.connect(
  typeof target === "string"
    ? new StreamableHTTPClientTransport(new URL(target))
    : new StdioClientTransport({ ...target, stderr: "inherit" }),
);
const tasks = client.experimental.tasks;

async function carryOut(order) {
  const call = { name: order.name, arguments: order.arguments };
  switch (order.do) {
    case "stream": {
      const seen = [];
      const options = { task: { ttl: 60_000 }, onprogress: ({ progress }) => seen.push(["progress", progress]) };
      for await (const message of tasks.callToolStream(call, CallToolResultSchema, options)) {
        const { type, task, result, error } = message;
        seen.push([type, task?.status ?? result ?? String(error), task?.taskId]);
      }
      return { seen, asked };
    }
    case "begin":
      return client.request({ method: "tools/call", params: { ...call, task: { ttl: 60_000 } } }, CreateTaskResultSchema);
    case "get":
      return tasks.getTask(order.task);
    case "result":
      return tasks.getTaskResult(order.task, CallToolResultSchema);
    case "cancel":
      return tasks.cancelTask(order.task);
    case "list":
      return tasks.listTasks();
    case "call": {
      const { progress, ...options } = order.options ?? {};
      return client.callTool(call, undefined, { ...options, onprogress: progress ? () => {} : undefined });
    }
    case "server":
      return client.getServerCapabilities();
    case "tools":
      return (await client.listTools()).tools;
  }
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
say({ id: 0, result: client.getServerVersion() });
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  carryOut(order).then(
    (result) => say({ id: order.id, result: result ?? null }),
    (error) => say({ id: order.id, error: String(error), code: error.code ?? null }),
  );
}
await client.close();
