"""People, from the first administrator to who leaves."""

import secrets
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from accounts.models.canonical_form import CanonicalField, canonical, forms_of
from accounts.models.changes import WritesChanges
from accounts.signals import account_closed

NAME_TAKEN = "This name is taken. Choose another."
EMAIL_TAKEN = "Another account has this address. Use another, or leave it empty."


class AlreadySetUp(Exception):
    """The first administrator exists; the set-up link has done its work."""


class LastAdministrator(Exception):
    """Without this account nobody could run the studio."""


class UserQuerySet(models.QuerySet["User"]):
    def named(self, name: str) -> "UserQuerySet":
        """Who has this user name, in any case."""
        return self.filter(username_key=canonical(name))

    def at(self, email: str) -> "UserQuerySet":
        """Who has this address, in any case; nobody has the empty one."""
        key = canonical(email)
        return self.filter(email_key=key) if key else self.none()

    def typed(self, text: str) -> "UserQuerySet":
        """Who logs in by this: a user name has no @, so an address is never somebody else's name."""
        return self.named(text) | self.at(text)

    def update(self, **columns: Any) -> int:
        return super().update(**columns, **forms_of(self.model, columns))

    update.alters_data = True  # type: ignore[attr-defined]


class UserManager(DjangoUserManager["User"]):
    def get_queryset(self) -> UserQuerySet:
        return UserQuerySet(self.model, using=self._db)

    def named(self, name: str) -> UserQuerySet:
        return self.get_queryset().named(name)

    def at(self, email: str) -> UserQuerySet:
        return self.get_queryset().at(email)

    def typed(self, text: str) -> UserQuerySet:
        return self.get_queryset().typed(text)

    def create_first_administrator(self, username: str, password: str, **fields: Any) -> "User":
        """Make the first account, an administrator; of two that come at once only one is made.

        Raises AlreadySetUp when there is any user.
        """
        try:
            # The first administrator always has the same primary key, so that the database itself
            # lets only one in, whatever the isolation level.
            with transaction.atomic():
                if self.exists():
                    raise AlreadySetUp
                user = self.create_superuser(username, password=password, pk=1, **fields)
                _continue_numbering_after(user)
                return user
        except IntegrityError as error:
            raise AlreadySetUp from error

    def administrators(self) -> models.QuerySet["User"]:
        """Who may do everything, and can log in."""
        return self.filter(is_superuser=True, is_active=True)

    def switch_off(self, user: "User") -> None:
        """Nobody logs in as ``user`` any more, nor sends a token of theirs or invites in their name.

        Raises LastAdministrator; of two administrators who switch each other off at once, one stays.
        """
        with transaction.atomic():
            administrators = self.administrators().select_for_update().order_by("pk")
            if list(administrators.values_list("pk", flat=True)) == [user.pk]:
                raise LastAdministrator(f"{user} is the last administrator. Make another one first.")
            self.filter(pk=user.pk).update(is_active=False, sessions_ended=F("sessions_ended") + 1)
            user.is_active = False
            account_closed.send(type(user), instance=user)
            user.auth_token_set.all().delete()
            user.invitations.revoke()

    def anonymise(self, user: "User") -> None:
        """Keep nothing of who ``user`` was. The row stays: the ledger points to it."""
        name = f"former-{user.pk}"
        if self.named(name).exclude(pk=user.pk).exists():
            name = f"{name}-{secrets.token_hex(4)}"
        with transaction.atomic():
            self.filter(pk=user.pk).update(
                username=name, email="", first_name="", last_name="", password=make_password(None),
                last_login=None, is_staff=False, is_superuser=False,
            )  # fmt: skip
            user.groups.clear()
            user.user_permissions.clear()
            if hasattr(user, "quota"):
                user.quota.delete()
            if hasattr(user, "invitation"):
                user.invitation.email = ""
                user.invitation.save(update_fields=["email"])


def _continue_numbering_after(user: "User") -> None:
    """Tell PostgreSQL's sequence that a key was used; SQLite looks at the rows itself."""
    from django.core.management.color import no_style
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [type(user)]):
            cursor.execute(statement)


class User(WritesChanges, AbstractUser):  # type: ignore[django-manager-missing]  # knox has no types
    """A person who draws. The user name is unique in any case, and so is an address where there is one."""

    username = models.CharField(
        max_length=60,
        unique=True,
        # No "@": a name can never be somebody else's email address, and both log in.
        validators=[RegexValidator(r"^[\w.\-]+\Z", "Use letters, digits, dots, hyphens and underscores.")],
        error_messages={"unique": NAME_TAKEN},
    )

    username_key = CanonicalField(of="username")
    email_key = CanonicalField(of="email")

    # Whether the request may reach rows of others. A token without the scope admin may not, whoever owns it.
    may_administer = True

    sessions_ended = models.PositiveIntegerField(
        default=0, editable=False, help_text="how often all sessions were ended"
    )

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["username_key"], name="username_key_is_unique"),
            models.UniqueConstraint(
                fields=["email_key"], condition=~Q(email_key=""), name="email_key_is_unique"
            ),
        ]

    def validate_constraints(self, exclude: Any = None) -> None:
        """Name the field that people fill in, not the one that the database compares."""
        super().validate_constraints(exclude)
        skipped = exclude or ()
        errors = {}
        if "username" not in skipped and User.objects.named(self.username).exclude(pk=self.pk).exists():
            errors["username"] = NAME_TAKEN
        if "email" not in skipped and User.objects.at(self.email).exclude(pk=self.pk).exists():
            errors["email"] = EMAIL_TAKEN
        if errors:
            raise ValidationError(errors)

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.may_administer and super().has_perm(perm, obj)

    def has_module_perms(self, app_label: str) -> bool:
        return self.may_administer and super().has_module_perms(app_label)

    def end_sessions(self) -> None:
        """Log out everywhere. Whoever asks keeps their own session by ``update_session_auth_hash``."""
        User.objects.filter(pk=self.pk).update(sessions_ended=F("sessions_ended") + 1)
        self.refresh_from_db(fields=["sessions_ended"])

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What a session must hold to go on: it changes with the password, and when sessions are ended."""
        salt = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"
        held = f"{self.password}{self.sessions_ended or ''}"
        return salted_hmac(salt, held, secret=secret, algorithm="sha256").hexdigest()

    @property
    def initials(self) -> str:
        """Two letters for the account button: of first and last name, else of the user name."""
        return ((self.first_name[:1] + self.last_name[:1]) or self.username[:2]).upper()


class Offboarding(models.Model):
    """Somebody leaves: their work goes to somebody else, or is deleted. The row says how far that is.

    It is worked on until ``finished_at`` is set, whatever is killed meanwhile; who switches the account on
    again stops it.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="offboarding", primary_key=True
    )
    to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="who gets it; nobody: it is deleted",
    )  # fmt: skip
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    begun_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    images = models.PositiveIntegerField(default=0, help_text="pictures moved or deleted so far")
    freed = models.PositiveBigIntegerField(default=0, help_text="bytes deleted so far")

    def __str__(self) -> str:
        return f"offboarding of {self.user}"

    @property
    def freed_mb(self) -> float:
        return self.freed / 1e6
