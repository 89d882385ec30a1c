// A proxy in front of the stack, on a port of its own, that can lose connections and answers, or answer by itself.

import { createServer, request } from "node:http";
import { stack } from "./stack.mjs";

/**
 * Starts one, closed with the test. Its `meet(call, pass)` may be replaced at any time: it gets every call
 * ({method, url, response}), and either answers, or calls `pass()`, which forwards it and resolves to the answer.
 */
export async function newGateway(t) {
  const open = new Set();
  const gateway = { meet: forward, base_url: "" };
  const server = createServer((incoming, response) => {
    const pass = () => askStack(incoming);
    Promise.resolve(gateway.meet({ method: incoming.method, url: incoming.url, response }, pass)).catch(() => response.destroy());
  });
  server.on("connection", (socket) => { open.add(socket); socket.on("close", () => open.delete(socket)); });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  gateway.base_url = `http://127.0.0.1:${server.address().port}`;
  /** As if the cable were pulled; `restore` puts it back. */
  gateway.cut = () => { gateway.meet = lose; for (const socket of open) socket.destroy(); };
  gateway.restore = () => { gateway.meet = forward; };
  t.after(() => { for (const socket of open) socket.destroy(); server.close(); });
  return gateway;
}

function askStack(incoming) {
  return new Promise((done, fail) => {
    const { host } = new URL(stack.base_url);
    const outgoing = request(stack.base_url + incoming.url, { method: incoming.method, headers: { ...incoming.headers, host } }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
    });
    outgoing.on("error", fail);
    incoming.pipe(outgoing);
  });
}

export async function forward({ response }, pass) {
  const answer = await pass();
  response.writeHead(answer.status, answer.headers).end(answer.body);
}

export const lose = ({ response }) => { response.destroy(); };

/** The connection breaks in the middle of an answer. (Before it, a browser may send the call again by itself.) */
export const breakOff = ({ response }) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
  response.write("{", () => response.destroy());
};

/** Answers calls of the API by itself; the page's own files still come from the stack. */
export const answering = (status, type, body, headers = {}) => (call, pass) => {
  if (!call.url.startsWith("/v1/")) return forward(call, pass);
  return call.response.writeHead(status, { "content-type": type, ...headers }).end(body);
};

export const isDecision = ({ method, url }) => method === "POST" && url.endsWith("/decision");

/** A deployment that says more of its requests than the stack can: `more` gives members by a request's id (a function of its detail). */
export async function describing(t, more) {
  const gateway = await newGateway(t);
  const add = (item) => ({ ...item, ...more[item.request_id]?.(item) });
  gateway.meet = async (call, pass) => {
    const answer = await pass();
    const { etag: _, ...headers } = answer.headers;
    let { body } = answer;
    if (call.url.startsWith("/v1/hitl/requests") && call.method === "GET" && answer.status === 200) {
      const json = JSON.parse(body);
      body = Buffer.from(JSON.stringify(json.items ? { ...json, items: json.items.map(add) } : add(json)));
      headers["content-length"] = String(body.length);
    }
    return call.response.writeHead(answer.status, headers).end(body);
  };
  return gateway;
}
