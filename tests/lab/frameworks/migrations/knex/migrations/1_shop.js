exports.up = async (knex) => {
  await knex.schema.createTable('people', (table) => {
    table.increments('id');
    table.string('email').notNullable().unique();
    table.enu('kind', ['buyer', 'seller'], { useNative: true, enumName: 'person_kind' });
    table.jsonb('settings').defaultTo('{}');
    table.timestamps(true, true);
    table.comment('who buys and sells');
  });
  await knex.schema.createTable('purchases', (table) => {
    table.uuid('id').primary().defaultTo(knex.raw('gen_random_uuid()'));
    table.integer('person_id').references('people.id').onDelete('CASCADE').index();
    table.decimal('total', 12, 2);
  });
  await knex('people').insert([{ email: 'ada@example.com' }, { email: 'ben@example.com' }]);
};

exports.down = async (knex) => {
  await knex.schema.dropTable('purchases');
  await knex.schema.dropTable('people');
  await knex.raw('DROP TYPE person_kind');
};
