-- depends: 1_shop

ALTER TABLE people ADD COLUMN note text;
UPDATE people SET note = 'imported' WHERE note IS NULL;
CREATE INDEX people_note ON people (note);
