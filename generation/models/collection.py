"""Collections: a picture may be in any number of them."""

from collections.abc import Iterable
from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Count, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models import User, WritesChanges
from generation.models.image import Image


class CollectionQuerySet(models.QuerySet["Collection"]):
    def visible_to(self, user: User) -> "CollectionQuerySet":
        """A collection is its owner's alone."""
        return self.filter(owner=user)

    def with_counts(self) -> Self:
        """``pictures``: how many are in each and not in the trash."""
        return self.annotate(pictures=Count("placements", filter=Q(placements__image__trashed_at=None)))

    def named(self, owner: User, name: str) -> "Collection":
        """The owner's collection of this name, a new one where there was none."""
        return self.get_or_create(owner=owner, name=name)[0]


class Collection(WritesChanges):
    """Pictures of one owner under a name."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="collections")
    name = models.CharField(max_length=80)
    images = models.ManyToManyField(Image, through="Placement", related_name="collections")
    created_at = models.DateTimeField(db_default=Now())

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                "owner", "name", name="collection_name",
                violation_error_message="You have a collection of this name. Choose another.",
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name

    def add(self, images: Iterable[Image]) -> None:
        """Put pictures in; those that are in stay in."""
        placements = [Placement(collection=self, image=image, moment=image.moment) for image in images]
        Placement.objects.bulk_create(placements, ignore_conflicts=True)

    def remove(self, images: Iterable[Image]) -> int:
        """Take pictures out; returns how many were in."""
        removed, _ = Placement.objects.filter(collection=self, image__in=list(images)).delete()
        return removed


class Placement(models.Model):
    """A picture in a collection. Its moment is here too, so that one index has them in order."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="placements")
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="placements")
    moment = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint("collection", "image", name="once_in_a_collection")]
        indexes: ClassVar = [models.Index(fields=["collection", "-moment"], name="placement_newest")]

    def __str__(self) -> str:
        return f"{self.image_id} in {self.collection_id}"
