import os

from tortoise import fields
from tortoise.models import Model

TORTOISE_ORM = {
    "connections": {"default": os.environ["DATABASE_URL"].replace("postgresql:", "asyncpg:")},
    "apps": {"models": {"models": ["shop", "aerich.models"], "default_connection": "default"}},
}


class Person(Model):
    id = fields.IntField(primary_key=True)
    email = fields.CharField(320, unique=True)
    kind = fields.CharField(10, default="buyer", db_index=True)
    settings = fields.JSONField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)


class Purchase(Model):
    id = fields.UUIDField(primary_key=True)
    person = fields.ForeignKeyField("models.Person", related_name="purchases")
