// The steps that every tested driver runs, with node-postgres: prints a line for each. The environment holds
// libpq's variables, and libpq's sslmode in MODE.
import pg from "pg";

// When node-postgres connects to an address, it verifies the name "localhost" unless it is given another one.
const ssl = process.env.MODE === "verify-full" && { rejectUnauthorized: true, servername: "shop.example" };
const client = new pg.Client({ ssl });
await client.connect();
const value = async (...query) => Object.values((await client.query(...query)).rows[0])[0];
const code = async (text) => {
  try {
    await client.query(text);
  } catch (error) {
    return error.code;
  }
};
console.log("select", await value("SELECT 1"));
const prepared = [];
for (const number of [41, 42, 43]) {
  const by_id = { name: "by_id", text: "SELECT id FROM orders WHERE id = $1", values: [number] };
  prepared.push(await value(by_id));
}
console.log("prepared", ...prepared);
console.log("denied", await code("DROP TABLE orders"));
await client.query("BEGIN");
await client.query("UPDATE orders SET status = $1 WHERE id = $2", ["lost", 2001]);
console.log("denied", await code("DELETE FROM orders"));
await client.query("ROLLBACK");
console.log("kept", await value("SELECT count(*) FROM orders WHERE status = 'lost'"));
const update = "UPDATE orders SET status = $1 WHERE id = $2";
await Promise.all([...Array(19).keys()].map((n) => client.query(update, ["paid", n + 1])));
console.log("rows", (await client.query("SELECT * FROM orders")).rows.length);
console.log("error", await code("SELECT 1/0"));
// node-postgres cancels through a second client.
const other = new pg.Client({ ssl });
await other.connect();
const slow = code("SELECT count(*) FROM generate_series(1, 10000000000)");
const running = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
  WHERE pid = ${client.processID} AND state = 'active' AND query LIKE '%10000000000%'`;
while ((await other.query(running)).rows[0].count === "0");
await other.end();
new pg.Client({ ssl }).cancel(client, client.activeQuery ?? client._activeQuery);
console.log((await slow) === "57014" ? "cancelled" : "lost");
console.log("goes on", await value("SELECT 2"));
await client.end();
