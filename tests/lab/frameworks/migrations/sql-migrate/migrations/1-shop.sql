-- +migrate Up
CREATE TABLE people (id serial PRIMARY KEY, email text NOT NULL UNIQUE);
INSERT INTO people (email) VALUES ('ada@example.com');
-- +migrate StatementBegin
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.email = lower(NEW.email); RETURN NEW;
END
$$;
-- +migrate StatementEnd
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();

-- +migrate Down
DROP TABLE people;
DROP FUNCTION touch();
