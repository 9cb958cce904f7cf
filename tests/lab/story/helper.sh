#!/bin/sh
# The job's third generation: a daemon, two forks away from the program that started it and in a session of
# its own, that runs psql against an IP address.
set -eu

psql -XAtq --host 127.0.0.1 <<'SQL'
SELECT count(*) FROM customers;
DROP TABLE customers;
\echo :SQLSTATE :LAST_ERROR_MESSAGE
SELECT count(*) FROM products;
SQL
