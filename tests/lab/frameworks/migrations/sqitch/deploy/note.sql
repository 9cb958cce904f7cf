-- Deploy shop:note to pg
BEGIN;
ALTER TABLE people ADD COLUMN note text;
DO $$
BEGIN
  UPDATE people SET note = 'imported';
END
$$;
COMMIT;
