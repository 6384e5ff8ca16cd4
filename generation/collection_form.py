"""The name of a collection, as forms send it."""

from typing import ClassVar

from django import forms

from generation.models import Collection

MOST_LETTERS = 80
_MISSING = "Give the collection a name."
_LONG = f"Use {MOST_LETTERS} characters or fewer for the name."
_TAKEN = "You have a collection of this name. Choose another."


class NameForm(forms.Form):
    """A name, taken or not."""

    name = forms.CharField(
        max_length=MOST_LETTERS, error_messages={"required": _MISSING, "max_length": _LONG}
    )


class CollectionForm(forms.ModelForm[Collection]):
    """A collection with a name that no other of its owner has."""

    class Meta:
        model = Collection
        fields: ClassVar = ["name"]
        error_messages: ClassVar = {"name": {"required": _MISSING, "max_length": _LONG}}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        same = Collection.objects.filter(owner=self.instance.owner, name=name)
        if same.exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(_TAKEN)
        return name
