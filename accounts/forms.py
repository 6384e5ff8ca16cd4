"""Forms for logging in, for new accounts, and for what people set of their own."""

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.utils import timezone

from accounts.models import EMAIL_TAKEN, ApiToken, Invitation, User

TOKEN_DAYS = 90
MOST_TOKEN_DAYS = 3650
INVITATION_DAYS = 7
MOST_INVITATION_DAYS = 30


def _days(most: int, initial: int) -> forms.IntegerField:
    """How long something lasts."""
    words = dict.fromkeys(("required", "invalid", "min_value", "max_value"), f"From 1 to {most:,} days.")
    return forms.IntegerField(min_value=1, max_value=most, initial=initial, error_messages=words)


class LoginForm(AuthenticationForm):
    stay = forms.BooleanField(required=False, initial=True, label="Stay logged in for 14 days")
    error_messages = {  # noqa: RUF012 (the parent class's form)
        "invalid_login": "Name and password do not match. Check both; capital letters count in the password.",
        "inactive": "This account is switched off. Ask a studio admin.",
    }


class NewAccountForm(forms.ModelForm[User]):
    """A name and a password, and an address if they like."""

    password = forms.CharField(
        strip=False, widget=forms.PasswordInput, error_messages={"required": "Choose a password."}
    )

    class Meta:
        model = User
        fields: tuple[str, ...] = ("username", "email")
        error_messages = {"username": {"required": "Choose a name."}}  # noqa: RUF012 (Django's form)

    def clean(self) -> dict[str, Any] | None:
        """Check the password against the rules and against the name beside it."""
        data = super().clean()
        beside = dict(self.cleaned_data)
        if password := beside.pop("password", ""):
            try:
                validate_password(password, User(**beside))
            except forms.ValidationError as error:
                self.add_error("password", error)
        return data


class SetupForm(NewAccountForm):
    def create(self) -> User:
        """Make the account. Raises AlreadySetUp when another was first."""
        return User.objects.create_first_administrator(**self.cleaned_data)


class InvitedForm(NewAccountForm):
    """Who was invited under an address has that one."""

    def __init__(self, *args: Any, invitation: Invitation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.invitation = invitation
        if invitation.email:
            del self.fields["email"]

    def clean(self) -> dict[str, Any] | None:
        """Somebody may have got the address since the invitation was made, by another one perhaps."""
        email = self.invitation.email
        if User.objects.at(email).exists():
            raise forms.ValidationError(
                f"There is an account of {email} already. Log in with it, or ask for another invitation."
            )
        return super().clean()

    def create(self) -> User:
        """Make the account. Raises what ``Invitation.accept`` does."""
        return self.invitation.accept(**{"email": self.invitation.email, **self.cleaned_data})


class ProfileForm(forms.ModelForm[User]):
    class Meta:
        model = User
        fields = ("first_name", "last_name", "email")


class TokenForm(forms.Form):
    """A new API token; ``admin`` is offered to administrators."""

    name = forms.CharField(max_length=100, error_messages={"required": "Say what it is for."})
    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        initial=ApiToken.DEFAULT_SCOPES,
        error_messages={"required": "Choose what it may do."},
    )
    days = _days(MOST_TOKEN_DAYS, TOKEN_DAYS)

    def __init__(self, *args: Any, owner: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner
        scopes = cast(forms.MultipleChoiceField, self.fields["scopes"])
        scopes.choices = [
            (scope, words) for scope, words in ApiToken.SCOPES.items() if scope != "admin" or owner.is_staff
        ]

    def clean_name(self) -> str:
        """Names differ, so that one knows which to revoke, and a page sent again makes no second token."""
        name = str(self.cleaned_data["name"])
        if ApiToken.objects.filter(user=self.owner, name=name).exists():
            raise forms.ValidationError("You have a token of this name. Choose another.")
        return name

    def issue(self) -> str:
        """Make the token and return it, this once."""
        said = self.cleaned_data
        return ApiToken.issue(self.owner, said["name"], said["scopes"], timedelta(days=said["days"]))


class InvitationForm(forms.ModelForm[Invitation]):
    """``by`` invites. Groups with permissions are the superusers' to give."""

    days = _days(MOST_INVITATION_DAYS, INVITATION_DAYS)

    class Meta:
        model = Invitation
        fields = ("email", "groups")
        widgets = {"groups": forms.CheckboxSelectMultiple}  # noqa: RUF012 (Django's form)

    def __init__(self, *args: Any, by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.by = by
        groups = Group.objects.order_by("name")
        allowed = groups if by.is_superuser else groups.filter(permissions=None)
        cast("forms.ModelMultipleChoiceField[Group]", self.fields["groups"]).queryset = allowed

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"])
        if User.objects.at(email).exists():
            raise forms.ValidationError(EMAIL_TAKEN)
        return email

    def create(self) -> Invitation:
        self.instance.invited_by = self.by
        self.instance.expires_at = timezone.now() + timedelta(days=self.cleaned_data["days"])
        with transaction.atomic():
            return self.save()


class NewPasswordForm(PasswordChangeForm):
    error_messages = {  # noqa: RUF012 (the parent class's form)
        "password_incorrect": "This is not your password. Capital letters count.",
        "password_mismatch": "The two differ. Type the new one twice.",
    }
