// A small plant for working on the screens without the brain: `npm run fixture [port]`, then open
// the address it prints (user demo, any password). Never shipped; the brain serves the real thing.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { makePlant } from "./plant.mjs";

const STATIC = fileURLToPath(new URL("../../src/workshop_brain/web/static/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const CSP = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'";
const plant = makePlant();
const sessions = new Set();
let signInOff = process.argv.includes("--open");

const cookie = (request) => /session=(\w+)/.exec(request.headers.cookie ?? "")?.[1];

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const text = Buffer.concat(parts).toString("utf8");
  try {
    return JSON.parse(text || "{}");
  } catch {
    return {};
  }
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://fixture");
  const json = (value, status = 200, headers = {}) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };
  if (!url.pathname.startsWith("/api/v1/")) return file(url.pathname, response);
  const route = decodeURIComponent(url.pathname.slice(8));
  const zh = (request.headers["accept-language"] ?? "").startsWith("zh");
  const who = { user: "demo", role: "admin", language: zh ? "zh" : "en" };
  if (request.method === "POST" && (route === "login" || route === "link")) {
    const id = Math.random().toString(36).slice(2);
    sessions.add(id);
    return json(who, 200, { "Set-Cookie": `session=${id}; HttpOnly; SameSite=Strict; Path=/` });
  }
  if (!signInOff && !sessions.has(cookie(request)))
    return json({ error: { id: "signed_out", message: zh ? "请先登录。" : "Please sign in.", params: {} } }, 401);
  if (route === "logout") {
    sessions.delete(cookie(request));
    return json({});
  }
  if (route === "me") return json(who);
  if (request.method !== "GET") return json(plant.act(request.method, route, await body(request), zh));
  if (route === "series" && (request.headers.accept ?? "").includes("csv")) {
    response.writeHead(200, { "Content-Type": "text/csv" });
    return response.end("path,time_ms,value\n");
  }
  const answer = plant.read(route, url.searchParams, zh);
  return answer === undefined ? json({ error: { id: "none", message: `no ${route}`, params: {} } }, 404) : json(answer);
});

async function file(path, response) {
  const name = normalize(join(STATIC, path === "/" ? "index.html" : path));
  if (!name.startsWith(STATIC)) return response.writeHead(403).end();
  try {
    const data = await readFile(name);
    response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream", "Content-Security-Policy": CSP });
    response.end(data);
  } catch {
    response.writeHead(404).end();
  }
}

/** One WebSocket message (server to client, not masked). */
function frame(data, opcode) {
  const size = data.length;
  const head = size < 126 ? Buffer.from([0x80 | opcode, size]) : size < 65536 ? Buffer.alloc(4) : Buffer.alloc(10);
  if (size >= 126) {
    head[0] = 0x80 | opcode;
    if (size < 65536) {
      head[1] = 126;
      head.writeUInt16BE(size, 2);
    } else {
      head[1] = 127;
      head.writeBigUInt64BE(BigInt(size), 2);
    }
  }
  return Buffer.concat([head, data]);
}

/** Text of one masked client message. */
function unmask(data) {
  let at = 2;
  let size = data[1] & 127;
  if (size === 126) {
    size = data.readUInt16BE(2);
    at = 4;
  }
  const mask = data.subarray(at, at + 4);
  return Buffer.from(data.subarray(at + 4, at + 4 + size).map((byte, i) => byte ^ mask[i & 3])).toString("utf8");
}

server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"];
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let timer;
  socket.on("data", (data) => {
    if ((data[0] & 15) === 8) return socket.end();
    let view;
    try {
      view = JSON.parse(unmask(data));
    } catch {
      return;
    }
    clearInterval(timer);
    timer = setInterval(() => {
      if (!plant.silent) socket.write(frame(plant.frame(view), 2));
    }, 1000 / Math.min(10, view.hz ?? 2));
  });
  const stop = () => clearInterval(timer);
  socket.on("close", stop);
  socket.on("error", stop);
});

const port = Number(process.argv[2] ?? 8791);
server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
