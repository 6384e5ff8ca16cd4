"""What of the gallery is asked for: checked, turned into a list of pictures, and into addresses again."""

from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from typing import Any, Self

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts.models import User
from generation import limits, search
from generation.models import Collection, Image, ImageQuerySet
from generation.moments import moment_at
from gpu.engines import ENGINES
from loras.models import Lora

# What a moment can say: see generation.moments.
FIRST_DAY, LAST_DAY = date(2020, 1, 1), date(2088, 12, 31)
MOST_LETTERS = 400
# What is called otherwise in the query string: the first of them is a word of Python.
NAMES = {"since": "from", "until": "to"}
_DAYS = [
    MinValueValidator(FIRST_DAY, f"Use a date from {FIRST_DAY:%Y} to {LAST_DAY:%Y}."),
    MaxValueValidator(LAST_DAY, f"Use a date from {FIRST_DAY:%Y} to {LAST_DAY:%Y}."),
]
_SEED = f"Use a whole number from 0 to {limits.MAX_SEED}."


class _CollectionField(forms.ModelChoiceField[Collection]):
    """What is no id at all is no collection either."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except forms.ValidationError as error:
            raise forms.ValidationError(self.error_messages["invalid_choice"]) from error


class FilterForm(forms.Form):
    """The query string of the gallery. All of it may be left out."""

    q = forms.CharField(required=False, max_length=MOST_LETTERS)
    lora = forms.ModelChoiceField(
        Lora.objects.none(), required=False, to_field_name="slug",
        error_messages={"invalid_choice": "No LoRA of yours has this name. Choose one of the list."},
    )  # fmt: skip
    engine = forms.ChoiceField(
        required=False, choices=[(name, name.upper()) for name in ENGINES],
        error_messages={"invalid_choice": f"Use {' or '.join(ENGINES)} as the engine."},
    )  # fmt: skip
    seed = forms.IntegerField(
        required=False,
        validators=[MinValueValidator(0, _SEED), MaxValueValidator(limits.MAX_SEED, _SEED)],
        error_messages={"invalid": _SEED},
    )
    since = forms.DateField(
        required=False, validators=_DAYS, error_messages={"invalid": "Write the first day as 2026-11-30."}
    )
    until = forms.DateField(
        required=False, validators=_DAYS, error_messages={"invalid": "Write the last day as 2026-11-30."}
    )
    favourite = forms.BooleanField(required=False)
    collection = _CollectionField(
        Collection.objects.none(), required=False,
        error_messages={"invalid_choice": "You have no such collection. Choose one of the list."},
    )  # fmt: skip

    def __init__(self, user: User, data: Any) -> None:
        super().__init__(data)
        self.fields["lora"].queryset = Lora.objects.visible_to(user)  # type: ignore[attr-defined]
        self.fields["collection"].queryset = Collection.objects.visible_to(user)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        days = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if days[0] and days[1] and days[0] > days[1]:
            self.add_error("until", "The last day is before the first. Exchange them.")
        return self.cleaned_data

    def add_prefix(self, field_name: str) -> str:
        """What a field is called in the query string."""
        return NAMES.get(field_name, field_name)

    @property
    def sentences(self) -> list[str]:
        """What is wrong, each as one sentence."""
        return [str(error) for errors in self.errors.values() for error in errors]


@dataclass(frozen=True)
class Filters:
    """Checked filters. ``since`` and ``until`` are days of the studio's time zone, both included."""

    q: str = ""
    lora: Lora | None = None
    engine: str = ""
    seed: int | None = None
    since: date | None = None
    until: date | None = None
    favourite: bool = False
    collection: Collection | None = None
    trash: bool = False

    @classmethod
    def of(cls, form: FilterForm, *, trash: bool = False) -> Self:
        """Those of a form that is valid."""
        return cls(**form.cleaned_data, trash=trash)

    def __bool__(self) -> bool:
        """Whether they leave any picture out; that the trash is another list does not count."""
        return self != type(self)(trash=self.trash)

    def images(self, user: User) -> ImageQuerySet:
        """The pictures of ``user`` that are left, each with its ``place``."""
        images = pictures_of(
            user, self.q, self.engine, self.lora, trash=self.trash, favourite=self.favourite or None,
            seed=self.seed, collection=self.collection,
        )  # fmt: skip
        return self._of_days(images)

    def _of_days(self, images: ImageQuerySet) -> ImageQuerySet:
        if self.since:
            images = images.between(first=moment_of_day(self.since))
        if self.until:
            images = images.between(end=moment_of_day(self.until + timedelta(days=1)))
        return images

    # Addresses ----------------------------------------------------------------------------------------

    @property
    def pairs(self) -> dict[str, str]:
        """What of the query string says them."""
        texts = {field.name: _text(getattr(self, field.name)) for field in fields(self)}
        return {NAMES.get(name, name): text for name, text in texts.items() if text and name != "trash"}

    @property
    def query(self) -> str:
        """``?q=star``, or nothing."""
        return f"?{urlencode(self.pairs)}" if self.pairs else ""

    def url(self, **changes: Any) -> str:
        """The address of the list with some filters changed."""
        changed = replace(self, **changes)
        return reverse("generation:trash" if changed.trash else "generation:gallery") + changed.query


def pictures_of(
    user: User,
    words: str = "",
    engine: str = "",
    lora: Lora | None = None,
    *,
    trash: bool = False,
    favourite: bool | None = None,
    seed: int | None = None,
    collection: Collection | None = None,
) -> ImageQuerySet:
    """Pictures of ``user``, newest first, each with its ``place``: for the pages and for the API.

    ``favourite``: favourites, or all others; None for both.
    """
    images: ImageQuerySet = Image.objects.visible_to(user)
    images = images.trashed() if trash else images.kept()
    if favourite is not None:
        images = images.filter(favourite=favourite)
    if seed is not None:
        images = images.filter(seed=seed)
    if collection:
        images = images.in_collection(collection)
    facts = [engine] if engine else []
    if lora:
        facts.append(search.lora_fact(lora.sha256))
    if words or facts:
        # Whether the list is one that has an index of its own, and may be short.
        is_narrow = trash or favourite or seed is not None or collection is not None
        images = images.matching(user, words, facts, within=bool(is_narrow))
    return images.newest_first()


def _text(value: Any) -> str:
    match value:
        case Lora():
            return value.slug
        case Collection():
            return str(value.pk)
        case None | False:
            return ""
        case True:
            return "1"
        case _:
            return str(value)


def moment_of_day(day: date) -> int:
    """The least moment of pictures made on ``day`` or later, in the studio's time zone."""
    return moment_at(timezone.make_aware(datetime.combine(day, time())))
