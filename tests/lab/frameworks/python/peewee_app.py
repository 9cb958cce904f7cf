"""Peewee: pool, introspection by pwiz's means, nested transactions, upserts, locks, server-side cursors."""

import os

from peewee import IntegrityError, fn
from playhouse.pool import PooledPostgresqlDatabase
from playhouse.reflection import Introspector

database = PooledPostgresqlDatabase(os.environ["PGDATABASE"], max_connections=3)
database.connect()
print("tables", sorted(database.get_tables()), [i.name for i in database.get_indexes("posts")])
print(
    "columns",
    [c.name for c in database.get_columns("authors")],
    database.get_foreign_keys("posts")[0].dest_table,
)
models = Introspector.from_database(database).generate_models(literal_column_names=True)
Author, Post, Label = models["authors"], models["posts"], models["labels"]
author = Author.create(name="Cleo", email="cleo@example.com", mood="ok", settings="{}", keywords="{}")
with database.atomic():
    Post.insert_many([{"author_id": author, "title": f"bulk {n}"} for n in range(30)]).execute()
    try:
        with database.atomic():
            Author.insert(name="x", email="ada@example.com").execute()
    except IntegrityError:
        print("savepoint")
    print("locked", Post.select().where(Post.title == "bulk 1").for_update("FOR UPDATE NOWAIT").get().title)
upsert = Author.insert(name="Cleo II", email="cleo@example.com").on_conflict(
    conflict_target=[Author.email], preserve=[Author.name]
)
print("upsert", upsert.returning(Author.name).execute()[0].name)
print("updated", Post.update(version=Post.version + 1).where(Post.title.startswith("bulk 1")).execute())
query = (
    Author.select(Author.name, fn.COUNT(Post.id).alias("n"))
    .join(Post)
    .group_by(Author.name)
    .order_by(Author.name)
)
print("grouped", [(a.name, a.n) for a in query])
print("deleted", Post.delete().where(Post.title.startswith("bulk")).execute())
database.close()
database.connect(reuse_if_open=True)
print("counted", Label.select().count())
database.close_all()
print("done")
