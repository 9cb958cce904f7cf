// TypeORM: pool, entities, relations, nested transactions, locks, upserts, cursors, streaming, introspection.
import "reflect-metadata";
import { DataSource, EntitySchema } from "typeorm";

const Author = new EntitySchema({
  name: "Author",
  tableName: "authors",
  columns: {
    id: { type: Number, primary: true, generated: "identity" },
    name: { type: "text" },
    email: { type: "text", unique: true },
    mood: { type: "enum", enum: ["sad", "ok", "happy"], default: "ok" },
    settings: { type: "jsonb", default: {} },
    keywords: { type: "text", array: true, default: [] },
  },
  relations: { posts: { type: "one-to-many", target: "Post", inverseSide: "author" } },
});
const Post = new EntitySchema({
  name: "Post",
  tableName: "posts",
  columns: {
    id: { type: "bigint", primary: true, generated: "increment" },
    title: { type: "varchar", length: 200 },
    body: { type: "text", nullable: true },
    price: { type: "numeric", precision: 10, scale: 2, default: 0 },
    published: { type: Boolean, default: false },
    version: { type: Number, version: true },
  },
  relations: {
    author: {
      type: "many-to-one",
      target: "Author",
      joinColumn: { name: "author_id" },
      inverseSide: "posts",
    },
    labels: {
      type: "many-to-many",
      target: "Label",
      joinTable: {
        name: "post_labels",
        joinColumn: { name: "post_id" },
        inverseJoinColumn: { name: "label_id" },
      },
    },
  },
});
const Label = new EntitySchema({
  name: "Label",
  tableName: "labels",
  columns: { id: { type: Number, primary: true, generated: "increment" }, name: { type: "text" } },
});

const source = new DataSource({
  type: "postgres",
  url: process.env.DATABASE_URL,
  entities: [Author, Post, Label],
  poolSize: 4,
  installExtensions: false,
  applicationName: "typeorm",
});
await source.initialize();
const runner = source.createQueryRunner();
const table = await runner.getTable("posts");
console.log("columns", table.columns.map(({ name, type }) => `${name} ${type}`).sort());
console.log(
  "keys",
  table.foreignKeys.map(({ name }) => name),
  table.indices.map(({ name }) => name),
);
console.log("has", await runner.hasTable("labels"), await runner.getCurrentSchema());
await runner.release();
const authors = source.getRepository("Author");
const posts = source.getRepository("Post");
const author = await authors.save({ name: "Cleo", email: "cleo@example.com", settings: { theme: "dark" } });
console.log("saved", author.id, author.mood);
await authors.upsert({ name: "Cleo II", email: "cleo@example.com" }, ["email"]);
console.log("upsert", (await authors.findOneBy({ email: "cleo@example.com" })).name);
await source.transaction(async (manager) => {
  const labels = await manager.getRepository("Label").find({ order: { id: "ASC" }, take: 2 });
  await manager.save("Post", { title: "first", author, labels });
  await manager
    .transaction(async (inner) => {
      await inner.update("Post", { title: "first" }, { title: "inner" });
      throw new Error("back");
    })
    .catch((error) => console.log("savepoint", error.message));
  const locked = await manager.findOne("Post", {
    where: { title: "first" },
    lock: { mode: "pessimistic_write" },
  });
  console.log("locked", locked.title);
  const skip = await manager
    .createQueryBuilder("Post", "p")
    .setLock("pessimistic_write")
    .setOnLocked("skip_locked")
    .where("p.title = :title", { title: "first" })
    .getOne();
  console.log("skip", skip.title);
});
await source
  .transaction("SERIALIZABLE", async (manager) => {
    await manager.delete("Post", { title: "first" });
    throw new Error("undo");
  })
  .catch((error) => console.log("rolled back", error.message));
const eager = await posts.find({ where: { title: "first" }, relations: { author: true, labels: true } });
console.log(
  "eager",
  eager.map(({ title, author, labels }) => [title, author.name, labels.map(({ name }) => name)]),
);
await posts.save(
  [...Array(30).keys()].map((n) => ({ title: `bulk ${n}`, author })),
  { chunk: 10 },
);
console.log("counted", await posts.countBy({ author: { id: author.id } }));
const changed = await posts
  .createQueryBuilder()
  .update()
  .set({ price: () => "price + 1" })
  .where("title LIKE 'bulk 1%'")
  .returning(["price"])
  .execute();
console.log("changed", changed.affected, changed.raw[0]);
await posts.increment({ title: "bulk 2" }, "price", 5);
const first = await posts.findOneBy({ title: "bulk 3" });
await posts.save({ ...first, body: "changed" });
console.log("version", (await posts.findOneBy({ title: "bulk 3" })).version);
console.log("grouped", await source.query("SELECT published, count(*) FROM posts GROUP BY 1 ORDER BY 1"));
const streaming = await posts.createQueryBuilder("p").select("p.id").stream();
let streamed = 0;
for await (const row of streaming) streamed += row ? 1 : 0;
console.log("streamed", streamed);
console.log(
  "removed",
  (await posts.remove(await posts.find({ where: { author: { id: author.id } } }))).length,
);
await Promise.all([...Array(20).keys()].map((n) => posts.findOneBy({ id: n })));
await source.destroy();
console.log("done");
