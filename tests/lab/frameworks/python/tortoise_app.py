"""Tortoise ORM on asyncpg: pool, relations, nested transactions, locks, bulk writes."""

import os

from tortoise import Tortoise, fields, run_async
from tortoise.exceptions import IntegrityError
from tortoise.functions import Count
from tortoise.models import Model
from tortoise.transactions import in_transaction


class Author(Model):
    id = fields.IntField(primary_key=True)
    name = fields.TextField()
    email = fields.TextField()
    settings = fields.JSONField(default={})
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "authors"


class Label(Model):
    id = fields.IntField(primary_key=True)
    name = fields.TextField()

    class Meta:
        table = "labels"


class Post(Model):
    id = fields.BigIntField(primary_key=True)
    author = fields.ForeignKeyField("models.Author", related_name="posts")
    title = fields.CharField(max_length=200)
    version = fields.IntField(default=1)
    labels = fields.ManyToManyField(
        "models.Label", through="post_labels", forward_key="label_id", backward_key="post_id"
    )

    class Meta:
        table = "posts"


async def main():
    url = os.environ["DATABASE_URL"].replace("postgresql:", "asyncpg:")
    await Tortoise.init(db_url=url, modules={"models": ["__main__"]})
    author = await Author.create(name="Cleo", email="cleo@example.com", settings={"theme": "dark"})
    async with in_transaction() as connection:
        post = await Post.create(author=author, title="first", using_db=connection)
        await post.labels.add(*await Label.filter(id__lte=2).using_db(connection), using_db=connection)
        try:
            async with in_transaction() as inner:
                await Author.create(name="x", email="ada@example.com", using_db=inner)
        except IntegrityError:
            print("inner", "rolled back")
        locked = (
            await Post.filter(title="first").using_db(connection).select_for_update(skip_locked=True).get()
        )
        print("locked", locked.title)
    await Post.bulk_create([Post(author=author, title=f"bulk {n}") for n in range(30)], batch_size=10)
    print(
        "eager",
        [
            (p.title, p.author.name, sorted(x.name for x in p.labels))
            for p in await Post.filter(title="first").prefetch_related("author", "labels")
        ],
    )
    print("grouped", await Author.annotate(n=Count("posts")).order_by("id").values_list("name", "n"))
    print("updated", await Post.filter(title__startswith="bulk 1").update(version=4))
    print(
        "fresh", (await Author.update_or_create(email="cleo@example.com", defaults={"name": "Cleo II"}))[1]
    )
    print("deleted", await Post.filter(author=author).delete())
    await Tortoise.close_connections()


run_async(main())
print("done")
