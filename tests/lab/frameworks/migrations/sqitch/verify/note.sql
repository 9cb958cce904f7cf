-- Verify shop:note on pg
BEGIN;
SELECT 1 / count(*) FROM pg_attribute WHERE attrelid = 'people'::regclass AND attname = 'note';
ROLLBACK;
