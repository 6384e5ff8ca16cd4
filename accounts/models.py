"""People and their API tokens."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.validators import RegexValidator
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Lower
from knox.models import AbstractAuthToken


class AlreadySetUp(Exception):
    """The first administrator exists; the set-up link has done its work."""


class UserManager(DjangoUserManager["User"]):
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


def _continue_numbering_after(user: "User") -> None:
    """Tell PostgreSQL's sequence that a key was used; SQLite looks at the rows itself."""
    from django.core.management.color import no_style
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [type(user)]):
            cursor.execute(statement)


class User(AbstractUser):  # type: ignore[django-manager-missing]  # knox has no types
    """A person who draws. Names are unique whatever the case; an email is too, where there is one."""

    username = models.CharField(
        max_length=60,
        unique=True,
        # No "@": a name can never be somebody else's email address, and both log in.
        validators=[RegexValidator(r"^[\w.\-]+\Z", "Use letters, digits, dots, hyphens and underscores.")],
        error_messages={"unique": "This name is taken. Choose another."},
    )

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("username"), name="username_unique_in_any_case"),
            models.UniqueConstraint(
                Lower("email"), condition=~models.Q(email=""), name="email_unique_in_any_case"
            ),
        ]

    @property
    def initials(self) -> str:
        """Two letters for the account button: of first and last name, else of the user name."""
        return ((self.first_name[:1] + self.last_name[:1]) or self.username[:2]).upper()


class ApiToken(AbstractAuthToken):  # type: ignore[misc]
    """A named token. Only its hash is kept: the token itself is shown once, when it is made."""

    name = models.CharField(max_length=100)

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key}…)"
