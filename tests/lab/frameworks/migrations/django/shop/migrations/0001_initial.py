import django.contrib.postgres.fields
import django.db.models.deletion
from django.contrib.postgres.operations import CITextExtension, TrigramExtension
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        CITextExtension(),
        TrigramExtension(),
        migrations.CreateModel(
            name="Person",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("email", models.EmailField(max_length=254, unique=True)),
                ("kind", models.CharField(db_index=True, default="buyer", max_length=10)),
                (
                    "labels",
                    django.contrib.postgres.fields.ArrayField(models.TextField(), default=list),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Purchase",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("total", models.DecimalField(decimal_places=2, max_digits=12)),
                (
                    "person",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="shop.person"),
                ),
            ],
        ),
    ]
