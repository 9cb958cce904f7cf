// Umzug as its manual shows it: migrations and the list of those done, both by Sequelize.
import { Sequelize } from 'sequelize';
import { SequelizeStorage, Umzug } from 'umzug';

const sequelize = new Sequelize(process.env.DATABASE_URL, { logging: false });
const umzug = new Umzug({
  migrations: { glob: 'migrations/*.js' },
  context: sequelize.getQueryInterface(),
  storage: new SequelizeStorage({ sequelize }),
  logger: undefined,
});
const done = {
  up: () => umzug.up(),
  status: () => umzug.executed(),
  down: () => umzug.down({ to: 0 }),
};
const [, , step] = process.argv;
for (const { name } of await done[step]()) console.log(step, name);
await sequelize.close();
