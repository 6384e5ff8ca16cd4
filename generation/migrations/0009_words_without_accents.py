import re
import unicodedata

from django.db import migrations

ACCENTED = re.compile("([A-Za-z])[\u0300-\u036f]+")
AT_ONCE = 1000


def plain(text):
    bare = ACCENTED.sub(r"\1", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", bare)


def take_accents_off(apps, schema_editor):
    """As new pictures have none. SQLite's index takes them off by itself."""
    if schema_editor.connection.vendor != "postgresql":
        return
    images = apps.get_model("generation", "Image").objects
    odd = images.filter(words__regex="[^\x01-\x7f]").only("words").order_by("pk")
    rest = odd
    while chunk := list(rest[:AT_ONCE]):
        for image in chunk:
            image.words = plain(image.words)
        images.bulk_update(chunk, ["words"])
        rest = odd.filter(pk__gt=chunk[-1].pk)


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0008_requests'),
    ]

    operations = [
        migrations.RunPython(take_accents_off, migrations.RunPython.noop),
    ]
