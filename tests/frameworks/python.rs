//! Drivers, ORMs and job queues of PyPI.

use crate::harness::Program;

#[test]
fn psycopg3_and_its_pools_work_as_direct() {
    Program::python("psycopg3", "psycopg3_client.py").works_as_direct_for(&["ci"]);
}
