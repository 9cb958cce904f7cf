exports.config = { transaction: false };
exports.up = (knex) => knex.raw('CREATE INDEX CONCURRENTLY people_note ON people (note)');
exports.down = (knex) => knex.raw('DROP INDEX CONCURRENTLY people_note');
