-- +migrate Up notransaction
CREATE INDEX CONCURRENTLY people_email ON people (email);

-- +migrate Down notransaction
DROP INDEX CONCURRENTLY people_email;
