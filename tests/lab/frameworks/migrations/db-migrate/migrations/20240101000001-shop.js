let type;
exports.setup = (options) => { ({ dataType: type } = options.dbmigrate); };
exports.up = async (db) => {
  await db.createTable('people', {
    id: { type: 'int', primaryKey: true, autoIncrement: true },
    email: { type: 'string', length: 320, notNull: true, unique: true },
  });
  await db.addIndex('people', 'people_email', ['email'], true);
  await db.insert('people', ['email'], ['ada@example.com']);
};
exports.down = (db) => db.dropTable('people');
exports._meta = { version: 1 };
