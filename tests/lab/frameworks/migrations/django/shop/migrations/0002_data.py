import django.contrib.postgres.indexes
from django.db import migrations, models


def fill(apps, editor):
    people = apps.get_model("shop", "Person").objects
    people.bulk_create([people.model(email=f"p{n}@example.com") for n in range(3)])
    people.filter(kind="buyer").update(kind="seller")
    people.update_or_create(email="p1@example.com", defaults={"kind": "both"})


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunSQL(
            "INSERT INTO shop_person (email, kind, labels) VALUES ('ada@example.com', 'x', '{}');"
            "CREATE VIEW sellers AS SELECT email FROM shop_person WHERE kind = 'seller';",
            "DROP VIEW sellers",
        ),
        migrations.AddField("person", "note", models.TextField(db_comment="free text", default="imported")),
        migrations.AddIndex(
            "person", django.contrib.postgres.indexes.GinIndex(fields=["labels"], name="shop_labels")
        ),
        migrations.AddConstraint(
            "person", models.CheckConstraint(condition=models.Q(email__contains="@"), name="has_at")
        ),
    ]
