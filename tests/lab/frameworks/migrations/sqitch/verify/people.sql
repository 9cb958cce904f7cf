-- Verify shop:people on pg
BEGIN;
SELECT id, email FROM people WHERE FALSE;
ROLLBACK;
