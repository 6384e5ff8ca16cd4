"""Pictures, their gallery and their trash."""

import logging
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Self
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Sum, When
from django.db.models.functions import Now
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.urls import reverse
from uuid_utils.compat import uuid7

from accounts.models import User
from files import storage
from generation import search
from generation.models.job import Job, JobLora
from generation.moments import LAST_MOMENT, new_moment

log = logging.getLogger(__name__)

# What drafts are finished in.
FINAL_ENGINE = "bf16"
# Somebody who draws one recipe more often sees the first ones side by side.
FAMILY_MOST = 12


class ImageQuerySet(models.QuerySet["Image"]):
    """Lists go by ``place``: the moment of a picture, wherever the database finds it soonest."""

    def visible_to(self, user: User) -> Self:
        """A picture is its owner's alone."""
        return self.filter(owner=user)

    def kept(self) -> Self:
        return self.filter(trashed_at=None)

    def trashed(self) -> Self:
        return self.exclude(trashed_at=None)

    # Lists --------------------------------------------------------------------------------------------

    def placed(self) -> Self:
        return self.annotate(place=F("moment"))

    def matching(
        self, owner: User, words: str = "", facts: Iterable[str] = (), *, within: bool = False
    ) -> Self:
        """Those of ``owner`` with all these words in prompt, seed or names of LoRAs, and all these facts.
        ``within``: these are few (see ``generation.search``).
        """
        return search.matching(self.filter(owner=owner), owner.pk, words, facts, within=within)

    def in_collection(self, collection: Any) -> Self:
        """Those of one collection; its own index has them in order, however many others there are."""
        return self.filter(placements__collection=collection).annotate(place=F("placements__moment"))

    def newest_first(self) -> Self:
        return (self if "place" in self.query.annotations else self.placed()).order_by("-place")

    def before(self, place: int) -> Self:
        """Older ones than that at ``place``, newest first."""
        return self.newest_first().filter(place__lt=place)

    def after(self, place: int) -> Self:
        """Newer ones than that at ``place``, oldest first."""
        return self.newest_first().filter(place__gt=place).order_by("place")

    def between(self, first: int = 0, end: int = LAST_MOMENT) -> Self:
        """Those from place ``first`` on, and before ``end``."""
        return self.newest_first().filter(place__gte=first, place__lt=end)

    def count_to(self, most: int) -> int:
        """How many there are, ``most`` at most: counting a million takes longer than showing a page."""
        return self.order_by()[:most].count()

    def all_of(self, pks: Collection[UUID]) -> list["Image"]:
        """The pictures of these ids, newest first. Raises DoesNotExist where one is missing."""
        found = list(self.filter(pk__in=pks).newest_first())
        if len(found) != len(set(pks)):
            raise Image.DoesNotExist
        return found

    def in_pages(self, size: int = 500) -> Iterator["Image"]:
        """All, newest first, read ``size`` at a time: no query stays open however long each is looked at."""
        page = list(self.newest_first()[:size])
        while page:
            yield from page
            page = list(self.before(page[-1].place)[:size])  # type: ignore[attr-defined]

    # Favourites ---------------------------------------------------------------------------------------

    def mark(self, *, favourite: bool) -> int:
        """Make favourites of them, or no favourites; returns how many were not."""
        return self.filter(favourite=not favourite).update(favourite=favourite)

    # The trash ----------------------------------------------------------------------------------------

    def trash(self) -> int:
        """Move to the trash what is not there; returns how many. Nothing is deleted."""
        return self.filter(trashed_at=None).update(trashed_at=Now())

    def purge(self, at_once: int = 500) -> int:
        """Delete what is in the trash for good, files too, ``at_once`` a transaction; returns how many."""
        purged = 0
        while deleted := self._purge_some(at_once):
            purged += deleted
        return purged

    def _purge_some(self, most: int) -> int:
        """Choose and delete under one lock: a picture is restored before both or after both, not between."""
        with transaction.atomic():
            some = list(self.trashed().order_by().values_list("pk", flat=True)[:most])
            locked = Image.objects.trashed().filter(pk__in=some).order_by().select_for_update(of=("self",))
            # ``delete`` reads the rows, and then deletes them by their ids, whatever they are by then.
            pks = list(locked.values_list("pk", flat=True))
            _, rows = Image.objects.filter(pk__in=pks).delete()
        return int(rows.get("generation.Image", 0))

    def bytes(self) -> int:
        """Of their PNG files."""
        return self.order_by().aggregate(sum=Sum("size"))["sum"] or 0

    def restore(self) -> int:
        return self.exclude(trashed_at=None).update(trashed_at=None)


class Image(models.Model):
    """A picture, stored whole. Its recipe is the job's, and here its seed and how it was drawn.

    Whoever deletes the row, its files are deleted once that is committed.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="images")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="images"
    )
    index = models.PositiveSmallIntegerField(help_text="place in the job, from 0")
    seed = models.BigIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    model = models.CharField(max_length=255)
    backend = models.CharField(max_length=120, help_text="what drew it: libraries, versions, precision")
    batch_size = models.PositiveSmallIntegerField(default=1, help_text="pictures denoised together with it")
    vae_tiling = models.BooleanField(default=False, help_text="decoded in tiles, for want of memory")
    file = models.FileField(max_length=200)
    sha256 = models.CharField(max_length=64, help_text="of the PNG file")
    size = models.PositiveBigIntegerField(help_text="bytes of the PNG file")
    thumbnail = models.FileField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    moment = models.BigIntegerField(default=new_moment, editable=False, help_text="what lists go by")
    words = models.TextField(editable=False, help_text="what it is found by: prompt, seed, names of LoRAs")
    facts = models.TextField(editable=False, help_text="whose, which engine, which LoRAs: for the search")
    favourite = models.BooleanField(default=False)
    trashed_at = models.DateTimeField(null=True, blank=True)

    objects = ImageQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint("job", "index", name="one_image_per_place")]
        indexes: ClassVar = [
            models.Index(fields=["owner", "-moment"], name="image_kept", condition=Q(trashed_at=None)),
            models.Index(
                fields=["owner", "-moment"], name="image_trashed", condition=Q(trashed_at__isnull=False)
            ),
            models.Index(
                fields=["owner", "-moment"],
                name="image_favourite",
                condition=Q(trashed_at=None, favourite=True),
            ),
            models.Index(fields=["owner", "seed", "-moment"], name="image_of_seed"),
            models.Index(fields=["owner", "size"], name="image_bytes_of_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.job.prompt[:60]} · seed {self.seed}"

    def get_absolute_url(self) -> str:
        return reverse("generation:image", args=[self.pk])

    # Drawing it again ---------------------------------------------------------------------------------

    def as_request(self) -> dict[str, Any]:
        """What the API is to be sent to draw this picture again, and it alone."""
        return self.job.as_request(seed=self.seed, count=1)

    def variations(self, count: int | str) -> Job:
        """Ask for the same with ``count`` new seeds, 1–4, as one job. Raises what ``Job.again`` does."""
        return self.job.again(seed=None, count=count)

    def finish_in(self, engine: str) -> tuple[Job, bool]:
        """The same picture on another engine: the job that draws or drew it, and whether that is new.

        Raises what ``Job.again`` does.
        """
        with transaction.atomic():
            # Held, so that of two clicks at once only one asks, also where both pictures are of one recipe.
            User.objects.select_for_update(of=("self",), no_key=True).get(images=self)
            if there := self.find_job_in(engine):
                return there, False
            return self.job.again(engine=engine, seed=self.seed, count=1), True

    def find_job_in(self, engine: str) -> Job | None:
        """The job that drew this very picture on ``engine``, or draws it, or is to."""
        drawn = self._alike(self._of_recipe().filter(job__engine=engine).order_by("moment"))
        return drawn[0].job if drawn else self._find_active_job(engine)

    def _find_active_job(self, engine: str) -> Job | None:
        seeds = Q(seed__lte=self.seed, seed__gt=self.seed - F("count"))
        active = Job.objects.active().filter(seeds, owner=self.owner_id, engine=engine, **self._recipe())
        same = (job for job in active.prefetch_related("job_loras") if job.weights == self.job.weights)
        return next(same, None)

    def family(self) -> "list[Image]":
        """The kept pictures of this very recipe, seed and LoRAs included, itself among them; oldest first.

        Only how they were drawn differs: the engine, and what drew them. Where there are too many, those
        of another engine and the newest are in it.
        """
        of_its_engine = Case(When(job__engine=self.job.engine, then=1), default=0)
        others = self._of_recipe().exclude(pk=self.pk).order_by(of_its_engine, "-moment")
        return sorted([self, *self._alike(others)[: FAMILY_MOST - 1]], key=lambda one: one.moment)

    def is_like(self, other: "Image") -> bool:
        """Whether both have one recipe, seed and LoRAs included."""
        same = self.seed == other.seed and self._recipe() == other._recipe()
        return same and self.job.weights == other.job.weights

    def _of_recipe(self) -> ImageQuerySet:
        recipe = {f"job__{name}": value for name, value in self._recipe().items()}
        same = Image.objects.filter(owner=self.owner_id, seed=self.seed, trashed_at=None, **recipe)
        for sha256, weight in self.job.weights if self.job.lora_set else ():
            has_it = JobLora.objects.filter(job=OuterRef("job"), sha256=sha256, weight=weight)
            same = same.filter(Exists(has_it))
        return same.select_related("job").prefetch_related("job__job_loras")

    def _alike(self, images: ImageQuerySet) -> "list[Image]":
        """The first ones. The database compared all but which bytes a job has twice, by two names."""
        return [one for one in images[:FAMILY_MOST] if one.job.weights == self.job.weights]

    def _recipe(self) -> dict[str, Any]:
        job = self.job
        return {name: getattr(job, name) for name in ("prompt", "width", "height", "steps", "lora_set")}


@receiver(post_delete, sender=Image)
def delete_files(sender: type[Image], instance: Image, origin: Any, **kwargs: Any) -> None:
    """Free the bytes, once nobody can ask for them any more; ``origin``: what was asked to be deleted."""
    names: list[str] = vars(origin).setdefault("_files_to_delete", [])
    if not names:
        transaction.on_commit(partial(_delete, names))
    names += filter(None, (instance.file.name, instance.thumbnail.name))


def _delete(names: list[str]) -> None:
    """All of them; or, where the store is away, those that it took: the rows are gone, so nobody fails."""
    for place, name in enumerate(names):
        try:
            storage.delete(name)
        except OSError as error:
            log.warning("%d files stay until the next cleanup: %s", len(names) - place, error)
            return
