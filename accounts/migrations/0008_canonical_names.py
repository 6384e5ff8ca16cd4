"""Names and addresses are unique in any case on every database, not by what its LOWER knows.

Where accounts differ in case only, the active ones come first, then the oldest: the first keeps what it has.
Each other one is given another user name, or loses the address, and the log says so. Passwords, tokens,
pictures and rights stay with their accounts.
"""

import logging

from django.db import migrations, models

import accounts.models.canonical_form
from accounts.models.canonical_form import canonical

log = logging.getLogger(__name__)


def fill(apps, schema_editor):
    user_model = apps.get_model("accounts", "User")
    names, addresses = {}, {}
    taken = {canonical(name) for name in user_model.objects.values_list("username", flat=True)}
    for user in user_model.objects.order_by("-is_active", "pk"):
        if keeper := names.get(canonical(user.username)):
            _rename(user, keeper, taken)
        names[canonical(user.username)] = user.username
        if user.email and (keeper := addresses.get(canonical(user.email))):
            log.warning(
                "The account %s loses its address %s, which %s has in another spelling.",
                user.username, user.email, keeper,
            )  # fmt: skip
            user.email = ""
        addresses[canonical(user.email)] = user.username
        user.save(update_fields=["username", "username_key", "email", "email_key"])


def _rename(user, keeper, taken):
    before, number = user.username, user.pk
    while canonical(user.username) in taken:
        ending = f"-{number}"
        user.username = before[: 60 - len(ending)] + ending
        number += 1
    taken.add(canonical(user.username))
    log.warning(
        "The account %s is called %s now, because %s has that name in another spelling. Tell its owner; the "
        "password stays.", before, user.username, keeper,
    )  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_offboarding_and_sessions")]

    operations = [
        migrations.AddField(
            model_name="user",
            name=name,
            field=accounts.models.canonical_form.CanonicalField(
                blank=True, default="", editable=False, max_length=640, of=of
            ),
        )
        for name, of in (("username_key", "username"), ("email_key", "email"))
    ] + [
        migrations.RemoveConstraint(model_name="user", name="username_unique_in_any_case"),
        migrations.RemoveConstraint(model_name="user", name="email_unique_in_any_case"),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(fields=("username_key",), name="username_key_is_unique"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                condition=models.Q(("email_key", ""), _negated=True),
                fields=("email_key",),
                name="email_key_is_unique",
            ),
        ),
    ]
