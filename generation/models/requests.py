"""How much of the API somebody uses: counted in the database, so that all web processes count together."""

from typing import ClassVar

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import Case, F, Value, When

from accounts.models import User


class RequestCount(models.Model):
    """The requests of a user in one minute: one row a user, used again each minute."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE)
    minute = models.BigIntegerField(help_text="minutes since 1970")
    count = models.PositiveIntegerField()

    class Meta:
        verbose_name = "count of requests"
        verbose_name_plural = "counts of requests"
        ordering: ClassVar = ["-count"]

    def __str__(self) -> str:
        return f"{self.user}: {self.count} requests"

    @classmethod
    def add(cls, user: User, minute: int, count: int) -> int:
        """Count so many more; returns how many there are in that minute, of all processes.

        Where another host's clock has begun the next minute already, they are counted in that one.
        """
        mine = cls.objects.filter(user=user)
        begun = Case(When(minute__in=(minute, minute + 1), then=F("count")), default=Value(0))
        newer = Case(When(minute=minute + 1, then=F("minute")), default=Value(minute))
        if not mine.update(count=begun + count, minute=newer):
            try:
                with transaction.atomic():
                    cls.objects.create(user=user, minute=minute, count=count)
            except IntegrityError:  # another process made the row meanwhile
                mine.update(count=begun + count, minute=newer)
        return int(mine.values_list("count", flat=True).get())
