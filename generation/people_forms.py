"""What administrators ask on the pages of people: which days of the ledger, and who gets somebody's work."""

from datetime import date, timedelta
from typing import Any, cast

from django import forms
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import UsageEntry, User
from generation import usage

# Days that can be reckoned with, in any time zone.
_DAYS = (MinValueValidator(date(1970, 1, 1)), MaxValueValidator(date(9000, 1, 1)))


class LedgerForm(forms.Form):
    """Days of the ledger, both included; what is left out or cannot be read is the last 30 days of all."""

    first = forms.DateField(required=False, validators=_DAYS)
    last = forms.DateField(required=False, validators=_DAYS)
    group = forms.ModelChoiceField(Group.objects.order_by("name"), required=False)

    def entries(self) -> QuerySet[UsageEntry]:
        self.is_valid()
        said = self.cleaned_data
        self.until = said.get("last") or timezone.localdate()
        self.since = said.get("first") or self.until - timedelta(days=usage.RECENT_DAYS - 1)
        return usage.ledger(self.since, self.until, said.get("group"))


class OffboardForm(forms.Form):
    """Hand over to somebody, or delete: for that the name is typed."""

    what = forms.ChoiceField(choices=[("transfer", ""), ("purge", "")])
    to = forms.ModelChoiceField(User.objects.none(), required=False, empty_label="Choose somebody")
    typed = forms.CharField(required=False)

    def __init__(self, *args: Any, leaving: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = leaving.username
        self.prompt = f"Type {self.name} to confirm"
        others = User.objects.filter(is_active=True).exclude(pk=leaving.pk).order_by("username")
        cast("forms.ModelChoiceField[User]", self.fields["to"]).queryset = others

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if said.get("what") == "purge":
            said["to"] = None
            if said.get("typed") != self.name:
                self.add_error("typed", f"Type {self.name} to delete all of it.")
        elif not said.get("to") and "to" not in self.errors:
            self.add_error("to", "Choose who gets the work.")
        return said
