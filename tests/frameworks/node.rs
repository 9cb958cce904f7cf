//! ORMs, query builders and job queues of npm.

use crate::harness::Program;

#[test]
fn knex_works_as_direct() {
    Program::node("knex", "knex.mjs").works_as_direct_for(&["ci"]);
}
