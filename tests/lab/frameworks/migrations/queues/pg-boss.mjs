// pg-boss installs its schema when it starts.
import { PgBoss } from 'pg-boss';

const boss = new PgBoss({
  connectionString: process.env.DATABASE_URL,
  max: 2,
  supervise: false,
  schedule: false,
});
boss.on('error', (error) => { console.error(error); process.exitCode = 1; });
await boss.start();
await boss.createQueue('mail');
console.log(await boss.isInstalled(), (await boss.getQueues()).length);
await boss.stop({ graceful: false });
