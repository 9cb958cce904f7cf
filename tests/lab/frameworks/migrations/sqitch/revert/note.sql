-- Revert shop:note from pg
BEGIN;
ALTER TABLE people DROP COLUMN note;
COMMIT;
