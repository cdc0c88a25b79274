"use strict";

/** What both editions share: routes, JSON in and out, one connection pool. */

const http = require("node:http");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 4 });

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Run `work(client)` between BEGIN and COMMIT; anything it throws rolls back. */
async function transaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

/** Ask the bank outside to pay out; the key lets it recognise a repetition. */
async function payOut(account, amount, key) {
  const reply = await fetch(`${process.env.BANK_URL}/payouts`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": key },
    body: JSON.stringify({ account, amount }),
    signal: AbortSignal.timeout(5000),
  });
  if (!reply.ok) throw new Refused(502, "the bank refused");
}

async function json(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks).toString("utf8")) : {};
}

/** Serve `routes`, a list of [method, pattern, handler(match, body) -> [status, value]]. */
function serve(routes) {
  const server = http.createServer(async (request, response) => {
    let [status, value] = [404, { error: "no such path" }];
    try {
      for (const [method, pattern, handler] of routes) {
        const match = request.method === method && pattern.exec(request.url);
        if (match) [status, value] = await handler(match, await json(request));
      }
    } catch (error) {
      [status, value] = [error.status ?? 500, { error: error.message }];
    }
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(value));
  });
  server.listen(Number(process.argv[2]), "127.0.0.1");
  process.on("SIGTERM", () => process.exit(0));
}

module.exports = { Refused, payOut, pool, serve, transaction };
