"""Forms for logging in and for the first administrator."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.password_validation import validate_password

from accounts.models import User


class LoginForm(AuthenticationForm):
    stay = forms.BooleanField(required=False, initial=True, label="Stay logged in for 14 days")
    error_messages = {  # noqa: RUF012 (the parent class's form)
        "invalid_login": "Name and password do not match. Check both; capital letters count in the password.",
        "inactive": "This account is switched off. Ask a studio admin.",
    }


class SetupForm(forms.ModelForm[User]):
    password = forms.CharField(strip=False, widget=forms.PasswordInput)

    class Meta:
        model = User
        fields = ("username", "email")

    def clean(self) -> dict[str, Any] | None:
        """Check the password against the rules and against the name beside it."""
        data = super().clean()
        password = self.cleaned_data.get("password")
        if password:
            try:
                validate_password(password, self.instance)
            except forms.ValidationError as error:
                self.add_error("password", error)
        return data

    def create(self) -> User:
        """Make the account. Raises AlreadySetUp when another was first."""
        return User.objects.create_first_administrator(**self.cleaned_data)
