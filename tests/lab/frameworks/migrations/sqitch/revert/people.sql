-- Revert shop:people from pg
BEGIN;
DROP TABLE people;
COMMIT;
