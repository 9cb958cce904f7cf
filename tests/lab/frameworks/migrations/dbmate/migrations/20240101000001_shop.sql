-- migrate:up
CREATE TYPE person_kind AS ENUM ('buyer', 'seller');
CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, kind person_kind);
INSERT INTO people (email) VALUES ('ada@example.com');
WITH gone AS (DELETE FROM people WHERE email = 'nobody' RETURNING *) INSERT INTO people (email) SELECT email FROM gone;

-- migrate:down
DROP TABLE people;
DROP TYPE person_kind;
