// Knex: pool, query builder, transactions with savepoints, upserts, locks, streaming, introspection.
import knex from "knex";

const db = knex({ client: "pg", connection: process.env.DATABASE_URL, pool: { min: 2, max: 4 } });
console.log("version", (await db.raw("SELECT 1 AS one")).rows);
console.log("tables", await db.schema.hasTable("posts"), await db.schema.hasColumn("posts", "title"));
console.log(
  "columns",
  Object.entries(await db("authors").columnInfo()).map(([name, { type }]) => `${name} ${type}`),
);
console.log(
  "insert",
  await db("authors").insert({ name: "Cleo", email: "cleo@example.com", mood: "ok" }, ["id", "mood"]),
);
console.log(
  "upsert",
  await db("authors")
    .insert({ name: "Cleo II", email: "cleo@example.com" })
    .onConflict("email")
    .merge(["name"])
    .returning(["id", "name"]),
);
await db.transaction(async (outer) => {
  await outer("posts").insert({ author_id: 3, title: "first" });
  await outer
    .transaction(async (inner) => {
      await inner("posts").where({ author_id: 3 }).update({ title: "inner" });
      throw new Error("back");
    })
    .catch((error) => console.log("savepoint", error.message));
  console.log("locked", await outer("posts").where({ author_id: 3 }).forUpdate().select("title"));
  console.log("skip", await outer("posts").where({ author_id: 3 }).forUpdate().skipLocked().first("title"));
});
console.log(
  "rolled back",
  await db
    .transaction(async (trx) => {
      await trx("posts").where({ author_id: 3 }).del();
      throw new Error("undo");
    })
    .catch((error) => error.message),
);
console.log(
  "join",
  await db("posts as p")
    .join("authors as a", "a.id", "p.author_id")
    .where("a.email", "cleo@example.com")
    .select("a.name", "p.title"),
);
console.log(
  "increment",
  await db("posts").where({ title: "first" }).increment("version", 2).returning("version"),
);
const batch = [...Array(25).keys()].map((n) => ({ author_id: 3, title: `batch ${n}` }));
console.log("batch", (await db.batchInsert("posts", batch, 10).returning("title")).length);
console.log("json", await db("authors").whereRaw("settings->>'theme' = ?", ["dark"]).pluck("email"));
console.log(
  "with",
  await db
    .with("few", db("posts").where("id", "<", 4))
    .from("few")
    .count("* as n"),
);
let streamed = 0;
for await (const row of db("posts").select("id").stream({ batchSize: 50 })) streamed += row.id ? 1 : 0;
console.log("streamed", streamed);
console.log("deleted", await db("posts").where("title", "like", "batch%").del());
await Promise.all([...Array(20).keys()].map((n) => db("posts").where({ id: n }).first()));
await db.destroy();
console.log("done");
