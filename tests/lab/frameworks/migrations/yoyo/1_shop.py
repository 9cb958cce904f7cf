from yoyo import step

steps = [
    step("CREATE TABLE people (id serial PRIMARY KEY, email text NOT NULL UNIQUE)", "DROP TABLE people"),
    step("INSERT INTO people (email) VALUES ('ada@example.com')"),
]
