// Prisma's client on @prisma/adapter-pg: relations, nested writes, transactions, upserts, raw SQL.
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "./prisma-client/client.ts";

const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL, max: 4 });
const prisma = new PrismaClient({ adapter });
await prisma.$connect();
const author = await prisma.author.create({
  data: {
    name: "Cleo",
    email: "cleo@example.com",
    settings: { theme: "dark" },
    keywords: ["a", "b"],
    posts: {
      create: [{ title: "first", labels: { create: [{ labelId: 1 }, { labelId: 2 }] } }, { title: "second" }],
    },
  },
  include: { posts: { include: { labels: { include: { label: true }, orderBy: { labelId: "asc" } } } } },
});
console.log(
  "created",
  author.mood,
  author.posts.map(({ title, labels }) => [title, labels.map((l) => l.label.name)]),
);
console.log(
  "upsert",
  (
    await prisma.author.upsert({
      where: { email: "cleo@example.com" },
      update: { name: "Cleo II" },
      create: { name: "Cleo", email: "cleo@example.com" },
    })
  ).name,
);
console.log(
  "upsert, new",
  (
    await prisma.author.upsert({
      where: { email: "dan@example.com" },
      update: {},
      create: { name: "Dan", email: "dan@example.com", mood: "sad" },
    })
  ).mood,
);
await prisma.$transaction(
  async (tx) => {
    await tx.post.update({ where: { id: author.posts[0].id }, data: { version: { increment: 1 } } });
    console.log(
      "locked",
      await tx.$queryRaw`SELECT title FROM posts WHERE id = ${author.posts[0].id} FOR UPDATE`,
    );
  },
  { isolationLevel: "Serializable" },
);
await prisma
  .$transaction(async (tx) => {
    await tx.post.deleteMany({ where: { authorId: author.id } });
    throw new Error("undo");
  })
  .catch((error) => console.log("rolled back", error.message));
console.log(
  "batch",
  await prisma.$transaction([
    prisma.post.updateMany({ where: { authorId: author.id }, data: { published: true } }),
    prisma.post.count({ where: { published: true } }),
  ]),
);
console.log(
  "bulk",
  await prisma.post.createMany({
    data: [...Array(25).keys()].map((n) => ({ authorId: author.id, title: `bulk ${n}` })),
    skipDuplicates: true,
  }),
);
console.log(
  "returned",
  (await prisma.post.createManyAndReturn({ data: [{ authorId: author.id, title: "bulk x" }] })).map(
    ({ title, price }) => `${title} ${price}`,
  ),
);
console.log(
  "found",
  await prisma.post.findMany({
    where: {
      author: { mood: "happy" },
      labels: {
        some: {
          label: { name: "news" },
        },
      },
    },
    orderBy: { id: "asc" },
    take: 3,
    select: { title: true },
  }),
);
console.log(
  "grouped",
  await prisma.post.groupBy({
    by: ["published"],
    _count: true,
    _sum: { version: true },
    orderBy: { published: "asc" },
  }),
);
console.log(
  "json",
  await prisma.author.findMany({
    where: { settings: { path: ["theme"], equals: "dark" } },
    select: { email: true },
    orderBy: { id: "asc" },
  }),
);
console.log("raw", await prisma.$executeRaw`UPDATE posts SET version = 9 WHERE title = 'second'`);
console.log(
  "duplicate",
  await prisma.author.create({ data: { name: "x", email: "ada@example.com" } }).catch(({ code }) => code),
);
console.log("deleted", await prisma.author.delete({ where: { id: author.id } }).then(({ name }) => name));
await prisma.$disconnect();
console.log("done");
