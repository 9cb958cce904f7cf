"""The Django application of `django_app.py`."""
