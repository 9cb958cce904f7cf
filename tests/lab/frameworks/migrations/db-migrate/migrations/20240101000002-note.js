exports.up = async (db) => {
  await db.addColumn('people', 'note', { type: 'text' });
  await db.changeColumn('people', 'note', { notNull: false, defaultValue: 'none' });
  await db.runSql("UPDATE people SET note = 'x' WHERE id = 1; INSERT INTO people (email) VALUES ('ben@example.com');");
  await db.renameColumn('people', 'note', 'remark');
};
exports.down = async (db) => {
  await db.renameColumn('people', 'remark', 'note');
  await db.removeColumn('people', 'note');
};
exports._meta = { version: 1 };
