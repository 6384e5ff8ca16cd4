"""What an owner may say of a LoRA, as the page's form."""

from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import Group
from django.core.validators import ProhibitNullCharactersValidator

from accounts.models import User
from loras import library, previews
from loras.models import Lora, is_administrator


class WordsField(forms.CharField):
    """A list of words or phrases, written with commas between them."""

    def __init__(self, *, most: int, longest: int, **options: Any) -> None:
        super().__init__(required=False, **options)
        self.most, self.longest = most, longest

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        ProhibitNullCharactersValidator()(value)  # those of CharField see a list
        words = [word.strip() for word in (value or "").split(",")]
        words = list(dict.fromkeys(filter(None, words)))
        if len(words) > self.most:
            raise forms.ValidationError(f"{len(words)} of them. Use at most {self.most}.")
        if long := [word for word in words if len(word) > self.longest]:
            raise forms.ValidationError(
                f"“{long[0][:20]}…” has {len(long[0])} characters. Use at most {self.longest}."
            )
        return words


def groups_of(user: User) -> Any:
    """The groups that the user may share with: their own, and for administrators all."""
    return Group.objects.all() if is_administrator(user) else user.groups.all()


class LoraForm(forms.ModelForm[Lora]):
    """Needs the user who fills it in."""

    trigger_words = WordsField(most=20, longest=100)
    tags = WordsField(most=30, longest=40)
    description = forms.CharField(max_length=4000, required=False, widget=forms.Textarea({"rows": 4}))
    source_url = forms.URLField(max_length=500, required=False, assume_scheme="https")
    preview_file = forms.FileField(required=False)

    class Meta:
        model = Lora
        fields: ClassVar = [
            "name", "description", "trigger_words", "tags", "recommended_weight", "licence", "source_url",
            "visibility", "groups",
        ]  # fmt: skip

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.before = self.instance.visibility
        if self.instance.approval == Lora.Approval.WAITING:
            self.initial["visibility"] = Lora.Visibility.EVERYONE  # what the owner asked for
        self.fields["groups"].queryset = groups_of(user)  # type: ignore[attr-defined]

    def clean_groups(self) -> Any:
        """The chosen groups, and those that an administrator added and the form does not offer."""
        hidden = self.instance.groups.exclude(pk__in=groups_of(self.user))
        kept = [group.pk for group in (*self.cleaned_data["groups"], *hidden)]
        return Group.objects.filter(pk__in=kept)

    def clean_preview_file(self) -> Any:
        file = self.cleaned_data["preview_file"]
        return previews.webp(file, file.size) if file else None

    def save(self, commit: bool = True) -> Lora:
        """Whoever leaves ``visibility`` as it was shown changes nothing about who may use the LoRA."""
        wanted, self.instance.visibility = self.instance.visibility, self.before
        if "visibility" in self.changed_data:
            self.instance.share(wanted, self.user)
        lora = super().save(commit)
        if preview := self.cleaned_data.get("preview_file"):
            library.set_preview(lora, preview)
        return lora
