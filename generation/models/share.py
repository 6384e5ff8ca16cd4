"""Links that show a picture or a collection to people without an account."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from uuid_utils.compat import uuid7

from accounts.models import User
from generation.models.collection import Collection
from generation.models.image import Image, ImageQuerySet

_signer = signing.Signer(salt="generation.share")


class ShareLinkQuerySet(models.QuerySet["ShareLink"]):
    def visible_to(self, user: User) -> "ShareLinkQuerySet":
        """Who made a link sees it in their list."""
        return self.filter(owner=user)

    def open(self) -> "ShareLinkQuerySet":
        """Those that lead somewhere: neither over nor revoked, of somebody who may still log in."""
        return self.filter(revoked_at=None, expires_at__gt=Now(), owner__is_active=True)

    def of_token(self, token: str) -> "ShareLinkQuerySet":
        """The open link with this token, or nothing."""
        try:
            pk = UUID(_signer.unsign(token))
        except (signing.BadSignature, ValueError):
            return self.none()
        return self.open().filter(pk=pk)

    def newest(self) -> "ShareLinkQuerySet":
        """With what a list of links shows of each."""
        return self.select_related("image__job", "collection").order_by("-created_at")

    def revoke(self) -> int:
        """Close them for good; returns how many were not."""
        return self.filter(revoked_at=None).update(revoked_at=Now())


class ShareLink(models.Model):
    """One picture or one collection, shown to whoever has the link until it expires or is revoked.

    The token is the signed id: nobody can guess one, and none is stored.
    """

    # How many days a link may be open.
    DAYS = (1, 7, 30, 90)
    USUAL_DAYS = 7

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="share_links")
    image = models.ForeignKey(
        Image, null=True, blank=True, on_delete=models.CASCADE, related_name="share_links"
    )
    collection = models.ForeignKey(
        Collection, null=True, blank=True, on_delete=models.CASCADE, related_name="share_links"
    )
    with_recipe = models.BooleanField(default=False, help_text="prompt and settings are shown, too")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ShareLinkQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(image=None, collection__isnull=False) | Q(image__isnull=False, collection=None),
                name="share_of_image_or_collection",
            )
        ]

    def __str__(self) -> str:
        return f"link to {self.collection or self.image}"

    @classmethod
    def to(
        cls,
        owner: User,
        images: Sequence[Image] = (),
        collection: Collection | None = None,
        *,
        days: int = USUAL_DAYS,
        with_recipe: bool = False,
    ) -> "ShareLink":
        """A new link to a picture, to several (as a new collection), or to a collection: ``owner``'s own."""
        with transaction.atomic():
            if len(images) > 1:
                collection = _shared_collection(owner, images)
            return cls.objects.create(
                owner=owner,
                image=None if collection else images[0],
                collection=collection,
                with_recipe=with_recipe,
                expires_at=timezone.now() + timedelta(days=days),
            )

    @property
    def token(self) -> str:
        return _signer.sign(self.pk.hex)

    def get_absolute_url(self) -> str:
        return reverse("generation:share", args=[self.token])

    @property
    def state(self) -> str:
        """``open``, ``expired`` or ``closed``."""
        if self.revoked_at:
            return "closed"
        return "open" if self.expires_at > timezone.now() else "expired"

    @property
    def images(self) -> ImageQuerySet:
        """What it shows: what its owner moved to the trash is not there."""
        mine = Image.objects.visible_to(self.owner).kept()
        if self.collection:
            return mine.in_collection(self.collection).newest_first()
        return mine.filter(share_links=self).newest_first()


def _shared_collection(owner: User, images: Sequence[Image]) -> Collection:
    """A new collection of these pictures, named after the day: Shared 25 Nov 2026, Shared 25 Nov 2026 (2)."""
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)  # two at once get two names
    name = f"Shared {date_format(timezone.localdate(), 'j M Y')}"
    taken = set(owner.collections.filter(name__startswith=name).values_list("name", flat=True))
    names = (name if number == 1 else f"{name} ({number})" for number in count(1))
    collection = Collection.objects.create(owner=owner, name=next(one for one in names if one not in taken))
    collection.add(images)
    return collection
