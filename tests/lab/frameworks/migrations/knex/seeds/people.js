exports.seed = async (knex) => {
  await knex.raw('TRUNCATE people RESTART IDENTITY CASCADE');
  await knex('people').insert([{ email: 'ada@example.com', kind: 'seller' }]);
};
