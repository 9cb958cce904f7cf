"""pgcli: what it asks for its completion when it connects, its back-slash commands, and statements."""

import os

from pgcli.pgexecute import PGExecute
from pgspecial.main import PGSpecial

executor = PGExecute(
    os.environ["PGDATABASE"],
    os.environ["PGUSER"],
    os.environ["PGPASSWORD"],
    os.environ["PGHOST"],
    os.environ["PGPORT"],
    application_name="pgcli",
)
print("path", executor.search_path(), executor.superuser, executor.valid_transaction())
print("schemas", sorted(executor.schemata()))
print("tables", sorted(executor.tables())[-4:], len(list(executor.views())))
print("columns", [c for c in executor.table_columns() if c[1] == "authors"])
print("view", sorted(c[2] for c in executor.view_columns() if c[1] == "published_posts"))
print("keys", sorted(key.childtable for key in executor.foreignkeys()))
print("databases", os.environ["PGDATABASE"] in executor.databases())
print("types", [name for _, name in executor.datatypes()])
print("functions", len(list(executor.functions())) >= 0, len(list(executor.casing())) > 0)
for command in (r"\d posts", r"\dt", r"\df public.*", r"\dn", r"\du", r"\dT mood"):
    for title, rows, headers, status, *_ in executor.run(command, pgspecial=PGSpecial()):
        print(command, headers, [tuple(row) for row in rows or []], str(status)[:200])
for text in ("SELECT count(*) FROM posts", "BEGIN", "UPDATE posts SET version = 2 WHERE id = 1", "ROLLBACK"):
    for title, rows, headers, status, *_ in executor.run(text):
        print(text, [tuple(row) for row in rows or []], status)
print("done")
