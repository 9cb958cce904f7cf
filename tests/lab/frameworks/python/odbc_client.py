"""psqlODBC by pyodbc: what reporting tools ask of a driver, transactions, cursors, batches."""

import os

import pyodbc

parts = {
    "Driver": "/usr/lib/{}/odbc/psqlodbcw.so".format(os.environ["TRIPLET"]),
    "Server": os.environ["PGHOST"],
    "Port": os.environ["PGPORT"],
    "Database": os.environ["PGDATABASE"],
    "Uid": os.environ["PGUSER"],
    "Pwd": os.environ["PGPASSWORD"],
}
for more in (
    {},
    {"UseDeclareFetch": "1", "Fetch": "40"},
    {"UseServerSidePrepare": "0", "Protocol": "7.4-1"},
):
    connection = pyodbc.connect(";".join(f"{name}={value}" for name, value in (parts | more).items()))
    cursor = connection.cursor()
    print("tables", sorted(row.table_name for row in cursor.tables(schema="public")))
    print(
        "columns",
        [(row.column_name, row.type_name) for row in cursor.columns(table="authors", schema="public")],
    )
    print("primary", [row.column_name for row in cursor.primaryKeys("posts", schema="public")])
    print(
        "foreign",
        [row.fkcolumn_name for row in cursor.foreignKeys(foreignTable="posts", foreignSchema="public")],
    )
    print(
        "indexes",
        sorted({row.index_name for row in cursor.statistics("posts", schema="public") if row.index_name}),
    )
    print("types", len(cursor.getTypeInfo().fetchall()) > 5)
    cursor.execute("INSERT INTO labels (name) VALUES (?)", str(more))
    cursor.executemany(
        "INSERT INTO posts (author_id, title) VALUES (?, ?)", [(1, f"bulk {n}") for n in range(20)]
    )
    connection.commit()
    cursor.execute("SELECT id FROM posts ORDER BY id")
    print("rows", sum(1 for _ in cursor))
    print("locked", cursor.execute("SELECT name FROM labels WHERE id = ? FOR UPDATE", 1).fetchone()[0])
    cursor.execute("UPDATE posts SET version = 3 WHERE title LIKE 'bulk%'")
    print("updated", cursor.rowcount)
    connection.rollback()
    try:
        cursor.execute("INSERT INTO labels (name) VALUES ('news')")
    except pyodbc.IntegrityError as error:
        print("duplicate", error.args[0])
    connection.rollback()
    cursor.execute("DELETE FROM posts WHERE title LIKE 'bulk%'")
    connection.commit()
    connection.close()
print("done")
