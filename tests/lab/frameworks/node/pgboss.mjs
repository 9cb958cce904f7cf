// pg-boss at run time: its schema stands already, or is made if the argument is "install".
import { PgBoss } from "pg-boss";

const install = process.argv[2] === "install";
const boss = new PgBoss({
  connectionString: process.env.DATABASE_URL,
  migrate: install,
  createSchema: install,
});
boss.on("error", (error) => {
  console.log("error", error.message);
  process.exitCode = 1;
});
await boss.start();
if (install) {
  for (const name of ["mail", "slow", "events"]) await boss.createQueue(name);
} else {
  console.log("queues", (await boss.getQueues()).map(({ name }) => name).sort());
  console.log("sent", typeof (await boss.send("mail", { to: "ada" }, { priority: 3, singletonKey: "ada" })));
  console.log(
    "again",
    (await boss.send("mail", { to: "ada" }, { singletonKey: "ada", singletonSeconds: 60 })) !== undefined,
  );
  await boss.insert("slow", [{ data: { n: 1 } }, { data: { n: 2 } }, { data: { n: 3 } }]);
  const jobs = await boss.fetch("slow", { batchSize: 2 });
  console.log("fetched", jobs.map(({ data }) => data.n).sort());
  await boss.complete("slow", jobs[0].id);
  await boss.fail("slow", jobs[1].id, { reason: "tried" });
  const done = new Promise((resolve) =>
    boss.work("mail", { pollingIntervalSeconds: 0.5 }, async ([job]) => {
      resolve(job.data);
      return "sent";
    }),
  );
  console.log("worked", await done);
  await boss.subscribe("hello", "events");
  await boss.publish("hello", { from: "ada" });
  console.log("event", (await boss.fetch("events"))[0].data);
  await boss.schedule("mail", "0 * * * *", { to: "cron" });
  console.log("schedules", (await boss.getSchedules()).length);
  await boss.unschedule("mail");
  await boss.maintain?.();
  await boss.deleteQueuedJobs("slow");
}
await boss.stop({ graceful: true, timeout: 10000 });
console.log("done");
