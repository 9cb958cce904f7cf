//! Migration tools and dumps under the shipped pack, for the group `migrations`: from an empty database to
//! done, back, and there again. Their files are in `tests/lab/frameworks/migrations`.

mod tool;

use lineal_tests::script::PYTHON;
use tool::Tool;

/// Calls of a Python module.
fn python<const N: usize>(module: &str, calls: [&str; N]) -> [String; N] {
    calls.map(|call| format!("exec {PYTHON} {module} {call}"))
}

/// Calls of a program.
fn calls<const N: usize>(program: &str, calls: [&str; N]) -> [String; N] {
    calls.map(|call| format!("exec {program} {call}"))
}

#[test]
fn knex_migrates_there_and_back() {
    let steps = [
        "migrate:latest",
        "migrate:list",
        "seed:run",
        "migrate:rollback --all",
        "migrate:latest",
        "migrate:unlock",
    ];
    Tool::new("knex", calls("knex", steps)).works_as_direct();
}

#[test]
fn node_pg_migrate_migrates_there_and_back() {
    Tool::new("node-pg-migrate", calls("node-pg-migrate", ["up", "redo", "down 3", "up"])).works_as_direct();
}

#[test]
fn sequelize_migrates_there_and_back() {
    let steps = ["", ":status", ":undo:all", ""].map(|step| format!("exec sequelize-cli db:migrate{step}"));
    let seeds = calls("sequelize-cli", ["db:seed:all", "db:seed:undo:all"]);
    Tool::new("sequelize", steps.into_iter().chain(seeds)).works_as_direct();
}

#[test]
fn umzug_migrates_there_and_back() {
    Tool::new("umzug", calls("node migrate.mjs", ["up", "status", "down", "up"])).works_as_direct();
}

#[test]
fn typeorm_migrates_there_and_back() {
    let steps = ["run", "show", "revert", "revert", "run"].map(|step| format!("migration:{step}"));
    let steps = steps.into_iter().chain(["schema:log", "schema:sync"].map(str::to_owned));
    Tool::new("typeorm", steps.map(|step| format!("exec typeorm {step} -d data-source.js")))
        .works_as_direct();
}

#[test]
fn drizzle_kit_migrates_pulls_and_pushes() {
    let steps = calls("drizzle-kit", ["migrate", "migrate", "pull", "push --force"]);
    Tool::new("drizzle", steps).prints_what_it_likes().works_as_direct();
}

#[test]
fn db_migrate_migrates_there_and_back() {
    Tool::new("db-migrate", calls("db-migrate", ["up", "check", "down", "reset", "up"])).works_as_direct();
}

#[test]
fn postgrator_migrates_there_and_back() {
    Tool::new("postgrator", calls("node migrate.mjs", ["max", "status", "0", "max"])).works_as_direct();
}

#[test]
fn prisma_migrates_resets_and_pushes() {
    let steps = [
        "migrate deploy",
        "migrate status",
        "db pull --print",
        "migrate reset --force --skip-generate --skip-seed",
        "db push --skip-generate --accept-data-loss",
    ];
    // Its engine in WebAssembly does the work. The native ones, which no registry has, would be fetched.
    Tool::new("prisma", calls("prisma", steps))
        .with("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true")
        .with("PRISMA_QUERY_ENGINE_LIBRARY", "/bin/true")
        .with("CHECKPOINT_DISABLE", "1")
        .works_as_direct();
}

#[test]
fn dbmate_migrates_there_and_back() {
    let steps = ["up", "status", "down", "down", "migrate", "dump"];
    Tool::new("dbmate", calls("dbmate -d migrations", steps)).works_as_direct();
}

#[test]
fn liquibase_migrates_there_and_back() {
    let program = "sh node_modules/liquibase/dist/liquibase/liquibase --changelog-file=changelog.yaml \
                   --url=jdbc:postgresql://$PGHOST:$PGPORT/$PGDATABASE \
                   --username=$PGUSER --password=$PGPASSWORD";
    let steps = ["update", "status", "rollback-count 5", "update", "release-locks"];
    Tool::new("liquibase", calls(program, steps)).works_as_direct();
}

#[test]
fn alembic_migrates_there_and_back() {
    let steps = ["upgrade head", "current", "downgrade base", "upgrade head", "stamp --purge 2"];
    Tool::new("alembic", python("-m alembic", steps)).works_as_direct();
}

#[test]
fn django_migrates_there_and_back() {
    let steps = [
        "migrate",
        "showmigrations",
        "inspectdb",
        "createcachetable cache",
        "flush --no-input",
        "migrate shop zero",
        "migrate auth zero",
        "migrate",
    ];
    Tool::new("django", python("manage.py", steps)).works_as_direct();
}

#[test]
fn yoyo_migrates_there_and_back() {
    let steps = ["apply", "list", "rollback", "apply"]
        .map(|step| format!("{step} --no-config-file --batch --database \"$DATABASE_URL\" ."));
    let program = "-c 'from yoyo.scripts.main import main; main()'";
    Tool::new("yoyo", steps.map(|step| format!("exec {PYTHON} {program} {step}"))).works_as_direct();
}

#[test]
fn aerich_migrates_there_and_back() {
    let steps = ["init-db", "history", "heads", "downgrade -v 0 --yes", "upgrade"];
    Tool::new("aerich", python("-m aerich", steps)).works_as_direct();
}

#[test]
fn rails_migrates_there_and_back_and_loads_its_schema() {
    let steps = ["up", "status", "dump schema.rb", "truncate", "down", "up", "load schema.rb"];
    Tool::new("rails", calls("ruby tasks.rb", steps)).works_as_direct();
}

#[test]
fn sequel_migrates_there_and_back() {
    let steps = ["", "-M 0", ""].map(|step| format!("exec sequel -m . {step} \"$DATABASE_URL\""));
    Tool::new("sequel", steps).works_as_direct();
}

#[test]
fn sqitch_deploys_and_reverts() {
    let steps = ["deploy --verify", "status", "verify", "revert -y", "deploy", "log"]
        .map(|step| format!("exec sqitch {step} db:pg://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE"));
    Tool::new("sqitch", steps).works_as_direct();
}

#[test]
fn sql_migrate_migrates_there_and_back() {
    Tool::new("sql-migrate", calls("sql-migrate", ["up", "status", "down -limit=0", "up"])).works_as_direct();
}

#[test]
fn job_queues_install_themselves() {
    let graphile = "exec graphile-worker --schema-only";
    let procrastinate = python("-m procrastinate --app app.app", ["schema --apply", "healthchecks"]);
    let steps = ["exec node pg-boss.mjs", "exec node pg-boss.mjs", graphile, graphile].map(str::to_owned);
    Tool::new("queues", steps.into_iter().chain(procrastinate)).works_as_direct();
}

#[test]
fn plain_dumps_are_made_and_loaded() {
    let steps = [
        "exec psql -Xq -v ON_ERROR_STOP=1 -f store.sql",
        "exec pg_dump -f whole.sql",
        "exec pg_dump --clean --if-exists --inserts -f clean.sql",
        "psql -XAtc 'DROP SCHEMA sales CASCADE; DROP EXTENSION citext; SELECT lo_unlink(oid) FROM \
         pg_largeobject_metadata'",
        "exec psql -Xq -v ON_ERROR_STOP=1 --single-transaction -f whole.sql",
        "exec psql -Xq -v ON_ERROR_STOP=1 -f clean.sql",
    ];
    Tool::new("dumps", steps).keeps_rows().works_as_direct();
}

#[test]
fn archives_are_made_and_restored() {
    let empty = "psql -XAtc 'DROP SCHEMA sales CASCADE; DROP EXTENSION citext; SELECT lo_unlink(oid) FROM \
                 pg_largeobject_metadata'";
    let steps = [
        "exec psql -Xq -v ON_ERROR_STOP=1 -f store.sql",
        "exec pg_dump --format=custom -f archive",
        "exec pg_dump --format=directory -j 2 -f folder",
        empty,
        "exec pg_restore -e --single-transaction -d $PGDATABASE archive",
        empty,
        "exec pg_restore -e -j 2 --no-owner --no-acl -d $PGDATABASE folder",
        "exec pg_restore -e --clean --if-exists -d $PGDATABASE archive",
    ];
    Tool::new("dumps", steps).keeps_rows().works_as_direct();
}
