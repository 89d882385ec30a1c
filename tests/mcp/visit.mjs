// A visit to any server, with the client of the official TypeScript SDK: everything that it lists, each tool called with
// arguments made from its schema, each prompt, each resource. Prints what was seen, as one line of JSON.
//
//   node visit.mjs '{"command": …, "args": […]}' | '"http://127.0.0.1:…/mcp"'
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const target = JSON.parse(process.argv[2]);
const capabilities = { sampling: {}, elicitation: { form: {} }, roots: {} };
const client = new Client({ name: "visit", version: "1" }, { capabilities });
const told = [];
client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => {
  told.push(["sampling", params.messages]);
  return { model: "none", role: "assistant", content: { type: "text", text: "sampled" } };
});
client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => {
  told.push(["elicitation", params.message]);
  return { action: "decline" };
});
client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: [] }));
client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => told.push(["log", params.data]));

const made = (schema = {}) => {
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const of = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (of ?? (schema.properties ? "object" : "string")) {
    case "object":
      return Object.fromEntries((schema.required ?? Object.keys(schema.properties ?? {})).map((name) => [name, made(schema.properties?.[name])]));
    case "array":
      return [made(schema.items)];
    case "integer":
    case "number":
      return schema.minimum ?? 1;
    case "boolean":
      return true;
    default:
      return schema.format === "email" ? "a@b.example" : "https://example.invalid/";
  }
};
const seen = {};
const tried = async (name, work) => {
  try {
    seen[name] = await work();
  } catch (error) {
    seen[name] = { error: String(error), code: error.code, data: error.data };
  }
  return seen[name];
};
await client.connect(
  typeof target === "string" ? new StreamableHTTPClientTransport(new URL(target)) : new StdioClientTransport({ ...target, stderr: "ignore" }),
);
const can = client.getServerCapabilities();
seen.server = [client.getServerVersion(), client.getInstructions(), Object.keys(can).filter((name) => name !== "tasks")];
const options = { timeout: 30_000 };
const tools = can.tools ? (await tried("tools", () => client.listTools())).tools : [];
for (const { name, inputSchema, execution } of tools ?? []) {
  if (execution?.taskSupport === "required") continue;
  await tried(`tool ${name}`, () => client.callTool({ name, arguments: made(inputSchema) }, undefined, options));
}
const prompts = can.prompts ? (await tried("prompts", () => client.listPrompts())).prompts : [];
for (const { name, arguments: wanted = [] } of prompts ?? []) {
  const args = Object.fromEntries(wanted.map((argument) => [argument.name, "x"]));
  await tried(`prompt ${name}`, () => client.getPrompt({ name, arguments: args }));
}
const resources = can.resources ? (await tried("resources", () => client.listResources())).resources : [];
for (const { uri } of resources ?? []) await tried(`resource ${uri}`, () => client.readResource({ uri }));
seen.told = told;
console.log(JSON.stringify(seen));
await client.close();
