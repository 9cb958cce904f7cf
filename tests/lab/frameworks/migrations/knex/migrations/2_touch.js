exports.up = async (knex) => {
  await knex.schema.alterTable('people', (table) => {
    table.text('note');
    table.string('email', 320).notNullable().alter();
  });
  await knex('people').whereNull('note').update({ note: 'imported' });
  await knex.raw(`
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN NEW.updated_at = now(); RETURN NEW; END
    $$;
    CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
    UPDATE people SET kind = 'buyer' WHERE kind IS NULL;
  `);
};

exports.down = async (knex) => {
  await knex.raw('DROP TRIGGER touch ON people; DROP FUNCTION touch();');
  await knex.schema.alterTable('people', (table) => table.dropColumn('note'));
};
