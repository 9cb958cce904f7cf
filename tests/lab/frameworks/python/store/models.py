"""store.sql as Django's models."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Author(models.Model):
    id = models.AutoField(primary_key=True)
    name = models.TextField()
    email = models.TextField(unique=True)
    mood = models.TextField(default="ok")
    settings = models.JSONField(default=dict)
    keywords = ArrayField(models.TextField(), default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "authors"


class Label(models.Model):
    id = models.AutoField(primary_key=True)
    name = models.TextField(unique=True)

    class Meta:
        db_table = "labels"


class Post(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="posts")
    title = models.CharField(max_length=200)
    body = models.TextField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    published = models.BooleanField(default=False)
    version = models.IntegerField(default=1)
    labels = models.ManyToManyField(Label, through="PostLabel")

    class Meta:
        db_table = "posts"


class PostLabel(models.Model):
    post = models.ForeignKey(Post, models.CASCADE)
    label = models.ForeignKey(Label, models.CASCADE)

    class Meta:
        db_table = "post_labels"
