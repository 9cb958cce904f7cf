from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class Person(models.Model):
    email = models.EmailField(unique=True)
    kind = models.CharField(max_length=10, default="buyer", db_index=True)
    labels = ArrayField(models.TextField(), default=list)
    note = models.TextField(db_comment="free text", default="imported")

    class Meta:
        indexes = [GinIndex(fields=["labels"], name="shop_labels")]
        constraints = [models.CheckConstraint(condition=models.Q(email__contains="@"), name="has_at")]


class Purchase(models.Model):
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    total = models.DecimalField(max_digits=12, decimal_places=2)
