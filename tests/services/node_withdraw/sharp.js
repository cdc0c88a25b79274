"use strict";

const { randomUUID } = require("node:crypto");
const { Refused, payOut, pool, serve, transaction } = require("./server");

async function withdraw([, id], { amount }) {
  return transaction(async (client) => {
    const { rows } = await client.query("SELECT balance FROM account WHERE id = $1", [id]);
    if (rows.length === 0) throw new Refused(404, "no such account");
    if (rows[0].balance < amount) throw new Refused(409, "insufficient funds");
    const balance = rows[0].balance - amount;
    await client.query("UPDATE account SET balance = $1 WHERE id = $2", [balance, id]);
    await client.query("INSERT INTO entry (account_id, amount) VALUES ($1, $2)", [id, -amount]);
    return [201, { id: Number(id), balance }];
  });
}

async function statements() {
  const accounts = await pool.query("SELECT id, balance FROM account ORDER BY id LIMIT 50");
  const result = [];
  for (const account of accounts.rows) {
    const entries = await pool.query(
      "SELECT id, amount FROM entry WHERE account_id = $1 ORDER BY id DESC LIMIT 10",
      [account.id],
    );
    result.push({ ...account, entries: entries.rows });
  }
  return [200, result];
}

async function payout([, id], { amount }) {
  const key = randomUUID();
  return transaction(async (client) => {
    const { rowCount } = await client.query(
      "UPDATE account SET balance = balance - $1 WHERE id = $2 AND balance >= $1",
      [amount, id],
    );
    if (rowCount === 0) throw new Refused(409, "insufficient funds");
    await client.query("INSERT INTO payout (key, account_id, amount) VALUES ($1, $2, $3)", [key, id, amount]);
    await payOut(id, amount, key);
    await client.query("UPDATE payout SET sent = true WHERE key = $1", [key]);
    return [201, { id: Number(id), amount }];
  });
}

serve([
  ["POST", /^\/accounts\/(\d+)\/withdrawals$/, withdraw],
  ["POST", /^\/accounts\/(\d+)\/payouts$/, payout],
  ["GET", /^\/statements$/, statements],
]);
