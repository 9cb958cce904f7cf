-- What people browse with in psql.
\set ON_ERROR_STOP 1
\pset pager off
\d
\d posts
\d+ authors
\dt+ public.labels
\di
\ds
\dv+
\dT+ mood
\dD
\df public.*
\dn
\dp posts
\ddp
\du app
\dx
\dy
\dRp
\dP
\sv published_posts
\encoding
SELECT title FROM posts WHERE id < 4 ORDER BY id \gdesc
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 2) n \gexec
SELECT 1 AS one \gset
\echo :one
BEGIN;
\set FETCH_COUNT 50
SELECT id FROM posts WHERE id % 50 = 0 ORDER BY id;
\unset FETCH_COUNT
SAVEPOINT here;
UPDATE posts SET title = 'changed' WHERE id = 1;
ROLLBACK TO here;
COMMIT;
\copy (SELECT id FROM labels ORDER BY id) to stdout
\timing off
TABLE labels;
