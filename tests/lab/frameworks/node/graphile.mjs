// graphile-worker at run time: its schema stands already, or is made if the argument is "install".
import { Logger, makeWorkerUtils, run, runOnce } from "graphile-worker";

const options = { connectionString: process.env.DATABASE_URL, logger: new Logger(() => () => {}) };
const utils = await makeWorkerUtils(options);
if (process.argv[2] === "install") {
  await utils.migrate();
} else {
  await utils.addJob("hello", { name: "Ada" }, { jobKey: "ada", maxAttempts: 2 });
  await utils.addJob("hello", { name: "Ada II" }, { jobKey: "ada", jobKeyMode: "replace" });
  await utils.addJob("fails", {}, { maxAttempts: 1 });
  await utils.withPgClient(async (client) => {
    await client.query("SELECT graphile_worker.add_job('hello', json_build_object('name', 'SQL'))");
  });
  const done = [];
  const taskList = {
    hello: async ({ name }, helpers) => {
      done.push(name);
      await helpers.query("SELECT 1");
    },
    fails: async () => {
      throw new Error("no");
    },
  };
  await runOnce({ ...options, taskList });
  console.log("once", done.sort());
  const heard = new Promise((resolve) => {
    taskList.heard = async (payload) => resolve(payload);
  });
  const runner = await run({
    ...options,
    taskList,
    concurrency: 2,
    noHandleSignals: true,
    pollInterval: 60000,
    crontab: "0 4 * * * hello",
  });
  await runner.addJob("heard", { by: "notification" });
  console.log("heard", await heard);
  await runner.stop();
  await utils.cleanup({ tasks: ["GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES", "DELETE_PERMAFAILED_JOBS"] });
}
await utils.release();
console.log("done");
