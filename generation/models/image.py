"""Pictures, their gallery and their trash."""

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.urls import reverse
from uuid_utils.compat import uuid7

from accounts.models import User
from generation import search
from generation.models.job import Job
from generation.moments import new_moment


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

    def matching(self, owner: User, words: str = "", facts: Iterable[str] = ()) -> Self:
        """Those of ``owner`` with all these words in prompt, seed or names of LoRAs, and all these facts
        (see ``generation.search``).
        """
        return search.matching(self.filter(owner=owner), owner.pk, words, facts)

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

    def count_to(self, most: int) -> int:
        """How many there are, ``most`` at most: counting a million takes longer than showing a page."""
        return self.order_by()[:most].count()

    # Favourites ---------------------------------------------------------------------------------------

    def mark(self, *, favourite: bool) -> int:
        """Make favourites of them, or no favourites; returns how many were not."""
        return self.filter(favourite=not favourite).update(favourite=favourite)

    # The trash ----------------------------------------------------------------------------------------

    def trash(self) -> int:
        """Move to the trash what is not there; returns how many. Nothing is deleted."""
        return self.filter(trashed_at=None).update(trashed_at=Now())

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


@receiver(post_delete, sender=Image)
def delete_files(sender: type[Image], instance: Image, **kwargs: Any) -> None:
    """Free the bytes, once nobody can ask for them any more."""
    for name in (instance.file.name, instance.thumbnail.name):
        if name:
            transaction.on_commit(partial(default_storage.delete, name))
