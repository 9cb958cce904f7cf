const { DataSource, EntitySchema } = require('typeorm');

const Person = new EntitySchema({
  name: 'Person',
  tableName: 'people',
  columns: {
    id: { type: Number, primary: true, generated: true },
    email: { type: String, unique: true },
    kind: { type: 'enum', enum: ['buyer', 'seller'], default: 'buyer' },
    note: { type: 'text', nullable: true },
    token: { type: 'uuid', generated: 'uuid' },
  },
});

module.exports = {
  source: new DataSource({
    type: 'postgres',
    url: process.env.DATABASE_URL,
    entities: [Person],
    migrations: ['migrations/*.js'],
    uuidExtension: 'uuid-ossp',
    installExtensions: true,
  }),
};
