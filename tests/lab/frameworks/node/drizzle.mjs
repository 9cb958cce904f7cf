// Drizzle on node-postgres and on postgres.js: relations, nested transactions, locks, prepared queries.
import { relations, sql, eq, like, inArray } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { drizzle as onPostgresJs } from "drizzle-orm/postgres-js";
import {
  bigserial,
  boolean,
  integer,
  jsonb,
  numeric,
  pgEnum,
  pgTable,
  serial,
  text,
  varchar,
} from "drizzle-orm/pg-core";
import pg from "pg";
import postgres from "postgres";

const mood = pgEnum("mood", ["sad", "ok", "happy"]);
const authors = pgTable("authors", {
  id: integer().primaryKey().generatedByDefaultAsIdentity(),
  name: text().notNull(),
  email: text().notNull().unique(),
  mood: mood().notNull().default("ok"),
  settings: jsonb().notNull().default({}),
  keywords: text().array().notNull().default([]),
});
const posts = pgTable("posts", {
  id: bigserial({ mode: "number" }).primaryKey(),
  authorId: integer("author_id").notNull(),
  title: varchar({ length: 200 }).notNull(),
  price: numeric({ precision: 10, scale: 2 }).notNull().default("0"),
  published: boolean().notNull().default(false),
});
const labels = pgTable("labels", { id: serial().primaryKey(), name: text().notNull() });
const authorsRelations = relations(authors, ({ many }) => ({ posts: many(posts) }));
const postsRelations = relations(posts, ({ one }) => ({
  author: one(authors, { fields: [posts.authorId], references: [authors.id] }),
}));
const schema = { authors, posts, labels, authorsRelations, postsRelations };

async function work(db, email) {
  const [author] = await db.insert(authors).values({ name: "Cleo", email }).returning();
  console.log("inserted", author.mood, author.keywords, author.settings);
  await db
    .insert(authors)
    .values({ name: "Cleo II", email })
    .onConflictDoUpdate({ target: authors.email, set: { name: "Cleo II" } });
  await db.transaction(
    async (outer) => {
      await outer.insert(posts).values([
        { authorId: author.id, title: "first" },
        { authorId: author.id, title: "second" },
      ]);
      await outer
        .transaction(async (inner) => {
          await inner.update(posts).set({ title: "inner" }).where(eq(posts.authorId, author.id));
          throw new Error("back");
        })
        .catch((error) => console.log("savepoint", error.message));
      console.log(
        "locked",
        await outer
          .select({ title: posts.title })
          .from(posts)
          .where(eq(posts.authorId, author.id))
          .orderBy(posts.id)
          .for("update", { skipLocked: true }),
      );
    },
    { isolationLevel: "serializable", accessMode: "read write" },
  );
  console.log(
    "eager",
    await db.query.authors.findFirst({
      where: eq(authors.email, email),
      columns: { name: true },
      with: { posts: { columns: { title: true }, orderBy: posts.id } },
    }),
  );
  const prepared = db
    .select({ title: posts.title })
    .from(posts)
    .where(eq(posts.id, sql.placeholder("id")))
    .prepare(`by_id_${author.id}`);
  for (const id of [1, 2, 3]) console.log("prepared", await prepared.execute({ id }));
  const few = db.$with("few").as(
    db
      .select({ id: posts.id })
      .from(posts)
      .where(inArray(posts.id, [1, 2, 3])),
  );
  console.log(
    "with",
    await db
      .with(few)
      .select({ n: sql`count(*)::int` })
      .from(few),
  );
  console.log(
    "deleted",
    (await db.delete(posts).where(like(posts.title, "%d")).returning({ id: posts.id })).length,
  );
  console.log("counted", await db.$count(posts, eq(posts.authorId, author.id)));
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 3 });
await work(drizzle(pool, { schema }), "cleo@example.com");
await pool.end();
const client = postgres(process.env.DATABASE_URL, { max: 3, onnotice: () => {} });
await work(onPostgresJs(client, { schema }), "dan@example.com");
console.log("enums", await client`SELECT 'sad'::mood AS mood, ARRAY['ok', 'happy']::mood[] AS moods`);
console.log(
  "insert",
  await client`INSERT INTO labels ${client([{ name: "x" }, { name: "y" }])} RETURNING id`,
);
let streamed = 0;
await client`SELECT id FROM posts`.cursor(50, (rows) => {
  streamed += rows.length;
});
console.log("cursor", streamed);
await client.end();
console.log("done");
