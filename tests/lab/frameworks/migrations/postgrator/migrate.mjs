// Postgrator as its manual shows it: versions of plain SQL, one text each.
import pg from 'pg';
import Postgrator from 'postgrator';

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
const postgrator = new Postgrator({
  migrationPattern: 'migrations/*',
  driver: 'pg',
  database: process.env.PGDATABASE,
  schemaTable: 'schemaversion',
  currentSchema: 'public',
  execQuery: (query) => client.query(query),
});
const [, , step] = process.argv;
if (step === 'status') console.log(step, await postgrator.getDatabaseVersion());
else for (const { filename } of await postgrator.migrate(step)) console.log(step, filename);
await client.end();
