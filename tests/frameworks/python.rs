//! Drivers, ORMs and job queues of PyPI.

use crate::harness::Program;

const READ_AND_CHANGE: [&str; 2] = ["contractors", "ci"];

#[test]
fn psycopg2_works_as_direct_with_all_that_a_test_suite_sends() {
    Program::python("psycopg2", "psycopg2_client.py").works_as_direct_for(&["ci"]);
}

#[test]
fn psycopg3_and_its_pools_work_as_direct() {
    Program::python("psycopg3", "psycopg3_client.py").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn asyncpg_its_pool_and_its_types_work_as_direct() {
    Program::python("asyncpg", "asyncpg_client.py").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn asyncpg_works_as_direct_with_all_that_a_test_suite_sends() {
    Program::python("asyncpg_ci", "asyncpg_ci.py").works_as_direct_for(&["ci"]);
}

#[test]
fn django_works_as_direct() {
    Program::python("django", "django_app.py").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn sqlalchemy_works_as_direct_on_three_drivers() {
    Program::python("sqlalchemy", "sqlalchemy_app.py").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn peewee_works_as_direct() {
    Program::python("peewee", "peewee_app.py").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn tortoise_works_as_direct() {
    Program::python("tortoise", "tortoise_app.py").works_as_direct_for(&READ_AND_CHANGE);
}

#[test]
fn procrastinate_works_its_queues_as_direct() {
    Program::python("procrastinate", "procrastinate_app.py").after_install().works_as_direct_for(&["ci"]);
}

#[test]
fn pgqueuer_works_its_queues_as_direct() {
    Program::python("pgqueuer", "pgqueuer_app.py").after_install().works_as_direct_for(&["ci"]);
}

#[test]
fn pgcli_completes_browses_and_changes_as_direct() {
    Program::python("pgcli", "pgcli_app.py").works_as_direct_for(&READ_AND_CHANGE);
}
