// Sequelize: pool, models, associations, nested transactions, locks, upserts, bulk writes, introspection.
import { DataTypes, Op, QueryTypes, Sequelize } from "sequelize";

const sequelize = new Sequelize(process.env.DATABASE_URL, { logging: false, pool: { min: 2, max: 4 } });
const plain = { timestamps: false, underscored: true };
const Author = sequelize.define(
  "Author",
  {
    name: DataTypes.TEXT,
    email: { type: DataTypes.TEXT, unique: true },
    mood: DataTypes.ENUM("sad", "ok", "happy"),
    settings: DataTypes.JSONB,
    keywords: DataTypes.ARRAY(DataTypes.TEXT),
  },
  { ...plain, tableName: "authors" },
);
const Post = sequelize.define(
  "Post",
  {
    title: DataTypes.STRING(200),
    body: DataTypes.TEXT,
    price: DataTypes.DECIMAL(10, 2),
    published: DataTypes.BOOLEAN,
    version: DataTypes.INTEGER,
  },
  { ...plain, tableName: "posts" },
);
const Label = sequelize.define("Label", { name: DataTypes.TEXT }, { ...plain, tableName: "labels" });
Author.hasMany(Post, { foreignKey: "author_id", as: "posts" });
Post.belongsTo(Author, { foreignKey: "author_id", as: "author" });
Post.belongsToMany(Label, {
  through: "post_labels",
  as: "labels",
  foreignKey: "post_id",
  otherKey: "label_id",
  timestamps: false,
});
Label.belongsToMany(Post, {
  through: "post_labels",
  foreignKey: "label_id",
  otherKey: "post_id",
  timestamps: false,
});

await sequelize.authenticate();
console.log("tables", (await sequelize.getQueryInterface().showAllTables()).sort());
const described = await sequelize.getQueryInterface().describeTable("authors");
console.log(
  "columns",
  Object.entries(described).map(([name, { type }]) => `${name} ${type}`),
);
const indexes = await sequelize.getQueryInterface().showIndex("posts");
console.log("indexes", indexes.map(({ name, primary }) => `${name} ${primary}`).sort());
const keys = await sequelize.getQueryInterface().getForeignKeyReferencesForTable("posts");
console.log(
  "keys",
  keys.map(({ constraintName }) => constraintName),
);
const author = await Author.create({
  name: "Cleo",
  email: "cleo@example.com",
  mood: "ok",
  keywords: ["a"],
  settings: { theme: "dark" },
});
console.log("created", author.id, author.mood);
// findOrCreate would send code in PL/pgSQL, which the shipped policies deny.
const [found, fresh] = await Author.findCreateFind({
  where: { email: "dan@example.com" },
  defaults: { name: "Dan", mood: "sad", settings: {}, keywords: [] },
});
console.log("find or created", found.name, fresh);
const [again] = await Author.upsert(
  { name: "Cleo II", email: "cleo@example.com", mood: "happy", settings: {}, keywords: [] },
  { conflictFields: ["email"] },
);
console.log("upsert", again.name);
await sequelize.transaction(async (transaction) => {
  const post = await Post.create(
    { title: "first", author_id: author.id, price: 1, published: true, version: 1 },
    { transaction },
  );
  await post.setLabels([1, 2], { transaction });
  await sequelize
    .transaction({ transaction }, async (inner) => {
      await post.update({ title: "inner" }, { transaction: inner });
      throw new Error("back");
    })
    .catch((error) => console.log("savepoint", error.message));
  const locked = await Post.findOne({
    where: { author_id: author.id },
    lock: transaction.LOCK.UPDATE,
    skipLocked: true,
    transaction,
  });
  console.log("locked", locked.title);
});
await sequelize
  .transaction({ isolationLevel: "SERIALIZABLE" }, async (transaction) => {
    await Post.destroy({ where: { author_id: author.id }, transaction });
    throw new Error("undo");
  })
  .catch((error) => console.log("rolled back", error.message));
const eager = await Author.findOne({
  where: { email: { [Op.iLike]: "CLEO@%" } },
  include: {
    association: "posts",
    include: ["labels"],
  },
  order: [
    ["id", "ASC"],
    ["posts", "labels", "id", "ASC"],
  ],
});
console.log(
  "eager",
  eager.posts.map(({ title, labels }) => [title, ...labels.map(({ name }) => name)]),
);
const many = [...Array(30).keys()].map((n) => ({
  title: `bulk ${n}`,
  author_id: author.id,
  price: n,
  published: false,
  version: 1,
}));
console.log("bulk", (await Post.bulkCreate(many, { returning: true })).length);
console.log("incremented", (await Post.increment({ version: 2 }, { where: { title: "bulk 1" } }))[0][1]);
console.log(
  "paged",
  await Post.findAndCountAll({ where: { published: false }, limit: 3, order: ["id"] }).then(
    ({ count, rows }) => [count, rows.map(({ title }) => title)],
  ),
);
console.log(
  "json",
  await Author.findAll({ where: { "settings.theme": "dark" }, attributes: ["email"], raw: true }),
);
console.log(
  "raw",
  await sequelize.query("SELECT name FROM labels WHERE id IN (:ids) ORDER BY id", {
    replacements: { ids: [1, 2] },
    type: QueryTypes.SELECT,
  }),
);
console.log(
  "bound",
  await sequelize.query("UPDATE posts SET version = $1 WHERE title = $2 RETURNING version", {
    bind: [7, "bulk 2"],
    type: QueryTypes.SELECT,
  }),
);
console.log("deleted", await Post.destroy({ where: { title: { [Op.like]: "bulk%" } } }));
await Promise.all([...Array(20).keys()].map((n) => Post.findByPk(n)));
await sequelize.close();
console.log("done");
