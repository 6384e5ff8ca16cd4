from django.db import migrations


class Migration(migrations.Migration):
    """knox makes a table for its own token model, though ours takes its place. Nothing was ever in it, and
    PostgreSQL would not empty accounts_user in tests because it points there."""

    dependencies = [
        ("accounts", "0002_quotas_and_ledger"),
        ("knox", "0009_extend_authtoken_field"),
    ]
    operations = [migrations.RunSQL("DROP TABLE IF EXISTS knox_authtoken", migrations.RunSQL.noop)]
