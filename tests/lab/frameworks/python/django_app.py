"""Django: persistent connections, models, relations, atomic blocks, locks, bulk writes, introspection."""

import os

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
        }
    },
    INSTALLED_APPS=["django.contrib.postgres", "store"],
    TIME_ZONE="Europe/Berlin",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib.postgres.aggregates import ArrayAgg  # noqa: E402
from django.core import serializers  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Count, F, Q, Sum, Window  # noqa: E402
from django.db.models.functions import Rank  # noqa: E402
from store.models import Author, Label, Post  # noqa: E402

print("tables", sorted(connection.introspection.table_names()))
with connection.cursor() as cursor:
    print("columns", [c.name for c in connection.introspection.get_table_description(cursor, "posts")])
    print("constraints", sorted(connection.introspection.get_constraints(cursor, "posts")))
    print("relations", sorted(connection.introspection.get_relations(cursor, "posts")))
    cursor.execute("SHOW timezone")
    print("timezone", cursor.fetchone())
author = Author.objects.create(
    name="Cleo", email="cleo@example.com", settings={"theme": "dark"}, keywords=["a"]
)
print("get or create", Author.objects.get_or_create(email="dan@example.com", defaults={"name": "Dan"})[1])
print(
    "update or create",
    Author.objects.update_or_create(email="dan@example.com", defaults={"name": "Dan II"})[1],
)
with transaction.atomic():
    post = Post.objects.create(author=author, title="first")
    post.labels.set(Label.objects.filter(id__lte=2))
    try:
        with transaction.atomic():
            Author.objects.create(name="x", email="ada@example.com")
    except IntegrityError as error:
        print("savepoint", error.__cause__.sqlstate)
    print("locked", Post.objects.select_for_update(skip_locked=True, of=("self",)).get(title="first").title)
print(
    "bulk",
    len(
        Post.objects.bulk_create([Post(author=author, title=f"bulk {n}") for n in range(30)], batch_size=10)
    ),
)
for post in (posts := list(author.posts.filter(title__startswith="bulk").order_by("id"))):
    post.body = post.title
print("bulk update", Post.objects.bulk_update(posts, ["body"], batch_size=10))
upserted = Author.objects.bulk_create(
    [Author(name="Ada II", email="ada@example.com")],
    update_conflicts=True,
    unique_fields=["email"],
    update_fields=["name"],
)
print("upsert", len(upserted), Author.objects.get(email="ada@example.com").name)
print("updated", author.posts.filter(title="bulk 1").update(version=F("version") + 5))
print(
    "eager",
    [
        (p.title, p.author.name, [label.name for label in p.labels.all()])
        for p in Post.objects.filter(title="first").select_related("author").prefetch_related("labels")
    ],
)
print(
    "json",
    list(Author.objects.filter(settings__theme="dark", keywords__contains=["a"]).values_list("email")),
)
print(
    "grouped",
    list(Author.objects.annotate(n=Count("posts"), names=ArrayAgg("name")).order_by("id").values_list("n")),
)
ranked = Post.objects.annotate(rank=Window(Rank(), order_by=F("price").desc())).filter(Q(published=True))
print("ranked", [p.rank for p in ranked[:3]], Post.objects.aggregate(total=Sum("price")))
print("iterated", sum(1 for _ in Post.objects.iterator(chunk_size=50)))
print("dumped", len(serializers.serialize("json", Label.objects.all())))
print("raw", [a.name for a in Author.objects.raw("SELECT * FROM authors WHERE id = %s", [1])])
print("explained", bool(Post.objects.filter(id=1).explain()))
connection.close()
print("deleted", author.delete())
print("done")
