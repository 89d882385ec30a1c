// A tour through everything that the reference server `@modelcontextprotocol/server-everything` has, with the client of the
// official SDK. Prints what was seen, as one line of JSON.
//
//   node tour.mjs '{"command": …, "args": […]}' | '"http://127.0.0.1:…/mcp"'
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

const target = JSON.parse(process.argv[2]);
const capabilities = { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } };
const client = new Client({ name: "tour", version: "1" }, { capabilities });
const seen = {};
const told = [];
client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => {
  told.push(["sampling", params]);
  return { model: "none", role: "assistant", content: { type: "text", text: "sampled" } };
});
client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => {
  told.push(["elicitation", params]);
  return { action: "decline" };
});
client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: [{ uri: "file:///tmp", name: "tmp" }] }));
const logged = [];
client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => logged.push(params.data));
await client.connect(
  typeof target === "string" ? new StreamableHTTPClientTransport(new URL(target)) : new StdioClientTransport({ ...target, stderr: "ignore" }),
);

const options = { timeout: 60_000 };
const tool = (name, args = {}, more = {}) => client.callTool({ name, arguments: args }, undefined, { ...options, ...more });
const tried = async (name, work) => {
  try {
    seen[name] = await work();
  } catch (error) {
    seen[name] = { error: String(error), code: error.code, data: error.data };
  }
};

seen.server = [client.getServerVersion(), client.getServerCapabilities(), client.getInstructions()];
await tried("ping", () => client.ping());
await tried("tools", () => client.listTools());
await tried("prompts", () => client.listPrompts());
await tried("prompt", () => client.getPrompt({ name: "args-prompt", arguments: { city: "Bern" } }));
const ref = { type: "ref/prompt", name: "completable-prompt" };
await tried("completion", () => client.complete({ ref, argument: { name: "department", value: "S" } }));
await tried("templates", () => client.listResourceTemplates());
await tried("resources", async () => {
  const pages = [];
  let cursor;
  do {
    const page = await client.listResources({ cursor });
    pages.push(page);
    cursor = page.nextCursor;
  } while (cursor);
  return pages;
});
await tried("text", () => client.readResource({ uri: "demo://resource/dynamic/text/1" }));
await tried("blob", async () => {
  const { contents } = await client.readResource({ uri: "demo://resource/dynamic/blob/2" });
  return contents.map((it) => ({ ...it, blob: Buffer.from(it.blob, "base64").toString() }));
});
await tried("no resource", () => client.readResource({ uri: "demo://none" }));
await tried("level", () => client.setLoggingLevel("debug"));
await tried("subscribe", () => client.subscribeResource({ uri: "demo://resource/dynamic/text/1" }));
await tried("unsubscribe", () => client.unsubscribeResource({ uri: "demo://resource/dynamic/text/1" }));
await tried("echo", () => tool("echo", { message: "é \u2028 \u0000 𝄞" }));
await tried("sum", () => tool("get-sum", { a: 0.1, b: 9007199254740991 }));
await tried("image", () => tool("get-tiny-image"));
await tried("structured", () => tool("get-structured-content", { location: "Chicago" }));
await tried("annotated", () => tool("get-annotated-message", { messageType: "error", includeImage: true }));
await tried("links", () => tool("get-resource-links", { count: 3 }));
await tried("reference", () => tool("get-resource-reference", { resourceType: "Text", resourceId: 1 }));
await tried("roots", () => tool("get-roots-list"));
await tried("wrong arguments", () => tool("get-sum", { a: "x" }));
await tried("no such tool", () => tool("none"));
await tried("no such method", () => client.request({ method: "none/such", params: { x: 1 } }, z.any(), options));
// The SDK loses the last step where it comes with the result.
await tried("progress", async () => {
  const steps = [];
  const onprogress = ({ progress, total, message }) => message?.startsWith("Waiting for a person") || steps.push([progress, total]);
  return [await tool("trigger-long-running-operation", { duration: 0.4, steps: 4 }, { onprogress }), steps.slice(0, 3)];
});
await tried("taken back", () => {
  const signal = AbortSignal.timeout(300);
  return tool("trigger-long-running-operation", { duration: 30, steps: 3 }, { signal });
});
await tried("sampling", () => tool("trigger-sampling-request", { prompt: "Hello?", maxTokens: 7 }));
await tried("elicitation", () => tool("trigger-elicitation-request"));
await tried("archive", () => tool("gzip-file-as-resource", { name: "a.gz", data: "data:text/plain,abc", outputType: "resource" }));
await tried("ping again", () => client.ping());
seen.told = told;
seen.logged = logged.filter((line) => String(line).startsWith("Received")).map((line) => String(line).replace(/ from session .*/, "").trim());
console.log(JSON.stringify(seen));
await client.close();
