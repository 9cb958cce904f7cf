exports.up = (pgm) => {
  pgm.createExtension('citext', { ifNotExists: true });
  pgm.createType('person_kind', ['buyer', 'seller']);
  pgm.createTable('people', {
    id: 'id',
    email: { type: 'citext', notNull: true, unique: true },
    kind: { type: 'person_kind', default: 'buyer' },
    created_at: { type: 'timestamptz', notNull: true, default: pgm.func('current_timestamp') },
  }, { comment: 'who buys and sells' });
  pgm.createTable('purchases', {
    id: { type: 'uuid', primaryKey: true, default: pgm.func('gen_random_uuid()') },
    person_id: { type: 'integer', references: 'people', onDelete: 'cascade' },
  });
  pgm.createIndex('purchases', 'person_id');
  pgm.sql("INSERT INTO people (email) VALUES ('ada@example.com'), ('ben@example.com')");
};
exports.down = (pgm) => {
  pgm.dropTable('purchases');
  pgm.dropTable('people');
  pgm.dropType('person_kind');
  pgm.dropExtension('citext');
};
