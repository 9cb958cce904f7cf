CREATE TABLE people (id serial PRIMARY KEY, email text NOT NULL UNIQUE);
INSERT INTO people (email) VALUES ('ada@example.com'), ('ben@example.com');
CREATE INDEX people_email ON people (lower(email));
