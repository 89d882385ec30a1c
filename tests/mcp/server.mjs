// A server on the official TypeScript SDK. What its tools did stands in the file that LEDGER names.
//
//   node server.mjs            on standard input and output
//   node server.mjs PORT       by streamable HTTP, at http://127.0.0.1:PORT/mcp
import { randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const text = (text) => ({ content: [{ type: "text", text }] });
const note = (line) => appendFileSync(process.env.LEDGER, `${line}\n`);

function ledger() {
  const server = new McpServer({ name: "ledger", version: "1.0.0" }, { capabilities: { logging: {} } });
  const reads = { annotations: { readOnlyHint: true } };
  server.registerTool("balance", { ...reads, inputSchema: { account: z.string() } }, ({ account }) => text(`${account}: 7`));
  server.registerTool(
    "pay",
    { annotations: { destructiveHint: true }, inputSchema: { to: z.string(), amount: z.number() } },
    async ({ to, amount }, extra) => {
      note(`pay ${to} ${amount}`);
      const progressToken = extra._meta?.progressToken;
      if (progressToken !== undefined) {
        await extra.sendNotification({ method: "notifications/progress", params: { progressToken, progress: 1, total: 2 } });
      }
      return text(`paid ${amount} to ${to}`);
    },
  );
  server.registerTool("refuse", { inputSchema: { why: z.string() } }, ({ why }) => {
    note(`refuse ${why}`);
    throw new Error(why);
  });
  server.registerTool("picture", reads, () => {
    const data = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString("base64");
    return { content: [{ type: "image", data, mimeType: "image/png" }] };
  });
  server.registerTool("confirm", reads, async () => {
    const requestedSchema = { type: "object", properties: { word: { type: "string" } }, required: ["word"] };
    const { action, content } = await server.server.elicitInput({ message: "A word?", requestedSchema });
    return text(`${action} ${content?.word}`);
  });
  server.registerResource("one", "note://one", {}, (uri) => ({ contents: [{ uri: uri.href, text: "a note" }] }));
  server.registerPrompt("greet", { argsSchema: { name: z.string() } }, ({ name }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Greet ${name}.` } }],
  }));
  return server;
}

const port = process.argv[2];
if (port === undefined) {
  await ledger().connect(new StdioServerTransport());
} else {
  const sessions = new Map();
  createServer(async (request, response) => {
    let transport = sessions.get(request.headers["mcp-session-id"]);
    if (!transport) {
      const onsessioninitialized = (id) => sessions.set(id, transport);
      transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, onsessioninitialized });
      await ledger().connect(transport);
    }
    await transport.handleRequest(request, response);
  }).listen(Number(port), "127.0.0.1");
}
