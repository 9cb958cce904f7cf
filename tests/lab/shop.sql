-- The lab's shop: made-up people, and the same ones every time. psql variables: user, password,
-- agent_password.

CREATE ROLE :"user" LOGIN PASSWORD :'password';
CREATE ROLE app_cleartext LOGIN PASSWORD :'password' IN ROLE :"user";
SET password_encryption = 'md5';
CREATE ROLE app_md5 LOGIN PASSWORD :'password' IN ROLE :"user";
RESET password_encryption;
CREATE ROLE app_cert LOGIN IN ROLE :"user";
CREATE ROLE app_agent LOGIN PASSWORD :'agent_password' IN ROLE :"user";
CREATE ROLE app_agent_reads LOGIN PASSWORD :'agent_password';

CREATE TABLE customers (
  id          integer PRIMARY KEY,
  name        text NOT NULL,
  email       text NOT NULL,
  phone       text NOT NULL,
  ssn         text NOT NULL,
  birth_date  date NOT NULL,
  card_number text NOT NULL,
  notes       text
);

CREATE TABLE products (
  id    integer PRIMARY KEY,
  name  text NOT NULL,
  price numeric(10, 2) NOT NULL
);

CREATE TABLE orders (
  id          integer PRIMARY KEY,
  customer_id integer NOT NULL REFERENCES customers,
  status      text NOT NULL,
  total       numeric(10, 2) NOT NULL,
  created_at  timestamptz NOT NULL
);

CREATE VIEW customer_contacts AS SELECT id, name, email, phone FROM customers;

INSERT INTO customers
SELECT
  n,
  first || ' ' || last,
  lower(first || '.' || last) || n || '@example.com',
  format('+1-555-%s-%s', to_char(n % 1000, 'FM000'), to_char(n * 7 % 10000, 'FM0000')),
  -- Social security numbers from 900 on are never issued.
  format(
    '9%s-%s-%s', to_char(n % 100, 'FM00'), to_char(n * 3 % 100, 'FM00'), to_char(n * 13 % 10000, 'FM0000')
  ),
  date '1950-01-01' + n * 37 % 20000,
  format('4000 0000 %s %s', to_char(n * 17 % 10000, 'FM0000'), to_char(n * 31 % 10000, 'FM0000')),
  CASE WHEN n % 10 = 0 THEN 'prefers to be called in the morning' END
FROM
  generate_series(1, 2000) n,
  LATERAL (SELECT
    (ARRAY['Ada', 'Ben', 'Chloe', 'Dmitri', 'Elif', 'Femi', 'Grace', 'Hiro', 'Ines', 'Jonas'])
      [1 + n % 10] AS first,
    (ARRAY['Abara', 'Berg', 'Castro', 'Diaz', 'Evans', 'Fischer', 'Gupta', 'Haddad', 'Ito', 'Jansen', 'Kaya'])
      [1 + n / 10 % 11] AS last
  ) names;

INSERT INTO products
SELECT n, 'product ' || n, (n * 37 % 9900 + 100) / 100.0 FROM generate_series(1, 200) n;

INSERT INTO orders
SELECT
  n,
  1 + n * 7 % 2000,
  (ARRAY['new', 'paid', 'shipped', 'returned'])[1 + n % 4],
  (n * 101 % 50000 + 500) / 100.0,
  timestamptz '2025-01-01 00:00:00+00' + n * interval '97 minutes'
FROM generate_series(1, 5000) n;

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON customers, orders, products TO :"user";
GRANT SELECT ON customer_contacts TO :"user";

ANALYZE;
