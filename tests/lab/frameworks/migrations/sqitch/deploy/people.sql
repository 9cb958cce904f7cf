-- Deploy shop:people to pg
BEGIN;
SET client_min_messages = 'warning';
CREATE TABLE people (id serial PRIMARY KEY, email text NOT NULL UNIQUE);
INSERT INTO people (email) VALUES ('ada@example.com');
COMMIT;
