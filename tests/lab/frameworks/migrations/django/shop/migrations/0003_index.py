from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0002_data")]
    operations = [
        AddIndexConcurrently("purchase", models.Index(fields=["total"], name="shop_total")),
        migrations.RemoveIndex("purchase", "shop_total"),
    ]
