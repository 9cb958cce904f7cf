"""SQLAlchemy on psycopg2, psycopg 3 and asyncpg: pools, reflection, ORM, savepoints, locks, bulk writes."""

import asyncio
import os

from sqlalchemy import MetaData, create_engine, event, func, inspect, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session, selectinload

URL = os.environ["DATABASE_URL"].removeprefix("postgresql")


def work(session, base, email):
    Author, Post, Label = base.classes.authors, base.classes.posts, base.classes.labels
    author = Author(name="Cleo", email=email, mood="sad", settings={"theme": "dark"}, keywords=["a"])
    author.posts_collection = [Post(title=f"bulk {n}") for n in range(30)]
    session.add(author)
    session.commit()
    print("added", author.mood, len(author.posts_collection))
    try:
        with session.begin_nested():
            session.execute(insert(Author).values(name="x", email="ada@example.com"))
    except IntegrityError:
        print("savepoint")
    locked = session.scalars(
        select(Post).where(Post.authors == author).order_by(Post.id).with_for_update(of=Post)
    )
    print("locked", locked.first().title)
    upsert = postgresql.insert(Author).values(name="Cleo II", email=email)
    upsert = upsert.on_conflict_do_update(index_elements=["email"], set_={"name": upsert.excluded.name})
    print("upsert", session.scalar(upsert.returning(Author.name)))
    session.execute(update(Post), [{"id": post.id, "body": "new"} for post in author.posts_collection])
    print(
        "in bulk",
        len(
            session.scalars(
                insert(Label).returning(Label.id), [{"name": f"{email} {n}"} for n in range(1200)]
            ).all()
        ),
    )
    few = select(Post.id).where(Post.id < 4).cte("few")
    print("with", session.scalar(select(func.count()).select_from(few)))
    streamed = session.execute(select(Post.id).execution_options(yield_per=50))
    print("streamed", sum(1 for _ in streamed))
    session.commit()
    for post in author.posts_collection:
        session.delete(post)
    session.commit()
    print("deleted", session.scalar(select(func.count()).where(Post.authors == author)))


for driver in ("psycopg2", "psycopg"):
    engine = create_engine(f"postgresql+{driver}{URL}", pool_size=2, pool_pre_ping=True)
    inspector = inspect(engine)
    print(
        "tables",
        inspector.get_table_names(),
        inspector.get_view_names(),
        inspector.get_enums()[0]["labels"],
    )
    print("columns", [(c["name"], str(c["type"])) for c in inspector.get_columns("authors")])
    print(
        "keys",
        inspector.get_foreign_keys("posts")[0]["constrained_columns"],
        inspector.get_indexes("posts")[0]["name"],
    )
    metadata = MetaData()
    metadata.reflect(engine, views=True)
    print("reflected", sorted(metadata.tables))
    base = automap_base()
    base.prepare(autoload_with=engine)
    with Session(engine) as session:
        work(session, base, f"{driver}@example.com")
    with engine.connect().execution_options(
        isolation_level="SERIALIZABLE", postgresql_readonly=True
    ) as connection:
        print("read only", connection.scalar(text("SHOW transaction_isolation")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        print("autocommit", connection.scalar(text("SELECT count(*) FROM authors")))
    engine.dispose()


async def main():
    engine = create_async_engine(f"postgresql+asyncpg{URL}", pool_size=2, pool_pre_ping=True)
    async with engine.connect() as connection:
        base = automap_base()
        await connection.run_sync(lambda sync: base.prepare(autoload_with=sync))
    async with AsyncSession(engine) as session:
        await session.run_sync(work, base, "asyncpg@example.com")
        Author = base.classes.authors
        eager = select(Author).options(selectinload(Author.posts_collection)).order_by(Author.id).limit(2)
        print("eager", [len(author.posts_collection) for author in await session.scalars(eager)])
    await engine.dispose()


asyncio.run(main())
print("done")
