ALTER TABLE people ADD COLUMN note text;
UPDATE people SET note = 'imported' WHERE note IS NULL;
ALTER TABLE people ALTER COLUMN note SET NOT NULL;
SELECT setval('people_id_seq', 100);
