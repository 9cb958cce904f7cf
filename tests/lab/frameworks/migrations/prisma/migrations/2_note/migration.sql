INSERT INTO "Person" ("email") VALUES ('ada@example.com');
UPDATE "Person" SET "note" = 'imported' WHERE "note" IS NULL;
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN 2 * n;
