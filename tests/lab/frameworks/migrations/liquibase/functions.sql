--liquibase formatted sql

--changeset shop:3 splitStatements:false
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN NEW.created_at = now(); RETURN NEW; END
$$;
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
--rollback DROP TRIGGER touch ON people; DROP FUNCTION touch();

--changeset shop:4 runInTransaction:false
CREATE INDEX CONCURRENTLY people_note ON people (note);
--rollback DROP INDEX people_note;

--changeset shop:5
CREATE VIEW buyers AS SELECT email FROM people;
COMMENT ON VIEW buyers IS 'everybody';
--rollback DROP VIEW buyers;
