-- A database with one of everything that a dump of an ordinary application can hold.

CREATE EXTENSION citext;
CREATE SCHEMA sales;
CREATE TYPE sales.kind AS ENUM ('buyer', 'seller');
CREATE TYPE sales.address AS (street text, city text);
CREATE TYPE sales.span AS RANGE (subtype = float8);
CREATE DOMAIN sales.email AS citext CHECK (VALUE LIKE '%@%');
CREATE COLLATION sales.german (provider = icu, locale = 'de');
CREATE SEQUENCE sales.tickets START 100;

CREATE TABLE sales.people (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email sales.email NOT NULL UNIQUE,
  kind sales.kind DEFAULT 'buyer',
  lives sales.address,
  labels text[] DEFAULT '{}',
  settings jsonb,
  photo bytea,
  full_text tsvector GENERATED ALWAYS AS (to_tsvector('english', coalesce(settings ->> 'about', ''))) STORED
);
COMMENT ON TABLE sales.people IS 'who buys and sells';
COMMENT ON COLUMN sales.people.email IS 'it''s \ unique';
CREATE TABLE sales.orders (
  id serial PRIMARY KEY,
  person_id bigint REFERENCES sales.people ON DELETE CASCADE DEFERRABLE,
  total numeric(12, 2) CHECK (total >= 0),
  placed date NOT NULL DEFAULT current_date,
  during tstzrange,
  EXCLUDE USING gist (during WITH &&)
);
CREATE TABLE sales.events (at timestamptz NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE sales.events_2024 PARTITION OF sales.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE sales.events_rest PARTITION OF sales.events DEFAULT;
CREATE TABLE sales.audit (LIKE sales.events) WITH (fillfactor = 70);
CREATE TABLE sales.parents (id integer);
CREATE TABLE sales.children (name text) INHERITS (sales.parents);
CREATE INDEX people_labels ON sales.people USING gin (labels);
CREATE INDEX people_lower ON sales.people (lower(email::text)) WHERE kind = 'seller';
CREATE STATISTICS sales.people_kinds ON kind, email FROM sales.people;

CREATE FUNCTION sales.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO sales.audit VALUES (now(), TG_OP);
  RETURN NEW;
END
$$;
CREATE FUNCTION sales.twice(n integer DEFAULT 1) RETURNS integer LANGUAGE sql IMMUTABLE RETURN 2 * n;
CREATE PROCEDURE sales.tidy() LANGUAGE sql AS 'DELETE FROM sales.audit WHERE at < now()';
CREATE AGGREGATE sales.total(numeric) (SFUNC = numeric_add, STYPE = numeric, INITCOND = '0');
CREATE OPERATOR sales.@@@ (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text);
CREATE TRIGGER note AFTER UPDATE ON sales.people FOR EACH ROW EXECUTE FUNCTION sales.note();
CREATE VIEW sales.sellers AS SELECT id, email FROM sales.people WHERE kind = 'seller' WITH LOCAL CHECK OPTION;
CREATE MATERIALIZED VIEW sales.totals AS SELECT person_id, sum(total) FROM sales.orders GROUP BY 1;
CREATE UNIQUE INDEX totals_person ON sales.totals (person_id);
CREATE RULE no_delete AS ON DELETE TO sales.audit DO INSTEAD NOTHING;
ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON sales.orders USING (person_id = 1);
CREATE TEXT SEARCH CONFIGURATION sales.plain (COPY = simple);
ALTER TABLE sales.people ALTER COLUMN email SET STATISTICS 500, ALTER COLUMN photo SET STORAGE EXTERNAL;

INSERT INTO sales.people (email, kind, lives, labels, settings, photo)
SELECT 'p' || n || '@example.com', 'seller', ROW('Main ' || n, 'Ulm')::sales.address, ARRAY['a', 'b\c', NULL],
  '{"about": "likes \"quotes\"; and\nlines"}', '\x00ff5c'
FROM generate_series(1, 200) n;
INSERT INTO sales.orders (person_id, total, during)
SELECT n, n * 1.5, tstzrange('2024-01-01'::timestamptz + n * interval '1 h', '2024-01-01'::timestamptz + (n + 1) * interval '1 h')
FROM generate_series(1, 100) n;
INSERT INTO sales.events SELECT '2024-01-01'::timestamptz + n * interval '3 d', 'event ' || n FROM generate_series(1, 200) n;
INSERT INTO sales.children VALUES (1, E'a\tb');
SELECT nextval('sales.tickets');
REFRESH MATERIALIZED VIEW sales.totals;
SELECT lo_from_bytea(424242, '\x0102');
