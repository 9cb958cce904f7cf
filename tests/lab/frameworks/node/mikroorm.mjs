// MikroORM: unit of work, identity map, relations, nested transactions, locks, upserts, introspection.
import { EntitySchema, LockMode, MikroORM } from "@mikro-orm/postgresql";

const Author = new EntitySchema({
  name: "Author",
  tableName: "authors",
  properties: {
    id: { type: "integer", primary: true, autoincrement: true },
    name: { type: "text" },
    email: { type: "text", unique: true },
    mood: { enum: true, items: ["sad", "ok", "happy"], nativeEnumName: "mood", default: "ok" },
    settings: { type: "json", defaultRaw: "'{}'" },
    keywords: { type: "array", defaultRaw: "'{}'" },
    posts: { kind: "1:m", entity: () => Post, mappedBy: "author" },
  },
});
const Post = new EntitySchema({
  name: "Post",
  tableName: "posts",
  properties: {
    id: { type: "bigint", primary: true, autoincrement: true },
    author: { kind: "m:1", entity: () => Author },
    title: { type: "string", length: 200 },
    body: { type: "text", nullable: true },
    published: { type: "boolean", default: false },
    version: { type: "integer", version: true },
    labels: {
      kind: "m:n",
      entity: () => Label,
      pivotTable: "post_labels",
      joinColumn: "post_id",
      inverseJoinColumn: "label_id",
    },
  },
});
const Label = new EntitySchema({
  name: "Label",
  tableName: "labels",
  properties: { id: { type: "integer", primary: true, autoincrement: true }, name: { type: "text" } },
});

const orm = await MikroORM.init({
  entities: [Author, Post, Label],
  clientUrl: process.env.DATABASE_URL,
  pool: { min: 2, max: 4 },
  ensureDatabase: false,
});
console.log("connected", await orm.isConnected());
const em = orm.em.fork();
const author = em.create("Author", {
  name: "Cleo",
  email: "cleo@example.com",
  settings: { theme: "dark" },
  keywords: ["a"],
});
const labels = await em.find("Label", { id: { $lte: 2 } }, { orderBy: { id: "asc" } });
const post = em.create("Post", { author, title: "first", labels });
for (let n = 0; n < 10; n += 1) em.create("Post", { author, title: `bulk ${n}` });
await em.flush();
console.log("flushed", author.id, author.mood, post.labels.length);
for (const bulk of await em.find("Post", { title: { $like: "bulk%" } })) bulk.body = bulk.title + "!";
await em.flush();
await em.transactional(async (outer) => {
  await outer
    .transactional(async (inner) => {
      await inner.nativeUpdate("Post", { title: "first" }, { title: "inner" });
      throw new Error("back");
    })
    .catch((error) => console.log("savepoint", error.message));
  const locked = await outer.findOne("Post", { title: "first" }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  console.log("locked", locked.title);
});
console.log(
  "upsert",
  (
    await em
      .fork()
      .upsert("Author", { name: "Cleo II", email: "cleo@example.com", settings: {}, keywords: [] })
  ).name,
);
const found = await orm.em
  .fork()
  .find(
    "Author",
    { posts: { title: "first" } },
    { populate: ["posts.labels"], orderBy: { posts: { id: "asc" } } },
  );
console.log(
  "eager",
  found.map(({ name, posts }) => [
    name,
    posts.getItems().length,
    posts
      .getItems()[0]
      .labels.getItems()
      .map((label) => label.name),
  ]),
);
console.log(
  "counted",
  await orm.em
    .fork()
    .findAndCount("Post", { published: true }, { limit: 2 })
    .then(([rows, count]) => [rows.length, count]),
);
console.log("raw", await em.getConnection().execute("SELECT name FROM labels WHERE id = ?", [1]));
console.log(
  "batch",
  await em
    .fork()
    .insertMany("Post", [
      { author, title: "x" },
      { author, title: "y" },
    ])
    .then((ids) => ids.length),
);
console.log("deleted", await em.fork().nativeDelete("Post", { author: author.id }));
await orm.close(true);
console.log("done");
