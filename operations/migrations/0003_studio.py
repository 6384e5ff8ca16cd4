"""The studio's id. The row is made here, so that no rolled back transaction takes back an id in use."""

import uuid

from django.db import migrations, models


def make_id(apps, schema_editor):
    apps.get_model("operations", "Studio").objects.get_or_create(number=1)


class Migration(migrations.Migration):
    dependencies = [("operations", "0002_cleanup_host")]

    operations = [
        migrations.CreateModel(
            name="Studio",
            fields=[
                (
                    "number",
                    models.PositiveSmallIntegerField(
                        default=1, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("id", models.UUIDField(default=uuid.uuid4, editable=False)),
                (
                    "release",
                    models.CharField(
                        default="",
                        editable=False,
                        help_text="the newest one that migrated the database",
                        max_length=40,
                    ),
                ),
            ],
            options={
                "verbose_name": "studio",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("number", 1)), name="one_studio_per_database"
                    )
                ],
            },
        ),
        migrations.AlterField(
            model_name="rule",
            name="kind",
            field=models.CharField(
                choices=[
                    ("trash", "pictures in the trash"),
                    ("pictures", "pictures that are no favourites"),
                    ("uploads", "uploads that never ended"),
                    ("temporary", "temporary files"),
                    ("orphans", "files that no row names, moved to the quarantine"),
                    ("quarantine", "files in the quarantine"),
                    ("jobs", "jobs that are over and have no pictures"),
                    ("logs", "older log files"),
                    ("tokens", "expired API tokens"),
                    ("sessions", "expired sessions"),
                    ("shares", "expired or revoked shares"),
                    ("invitations", "expired or used invitations"),
                ],
                max_length=20,
                primary_key=True,
                serialize=False,
            ),
        ),
        migrations.RunPython(make_id, migrations.RunPython.noop),
    ]
