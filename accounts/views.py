"""Logging in and out, the first run, invitations, and what people set of their own account."""

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.contrib.auth.views import PasswordChangeView
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import setup as setup_link
from accounts.administrators import for_administrators
from accounts.forms import InvitedForm, LoginForm, NewPasswordForm, ProfileForm, SetupForm
from accounts.models import AlreadySetUp, ApiToken, Invitation, InvitationClosed, User

BACKEND = "accounts.backends.UsernameOrEmailBackend"


def user_of(request: HttpRequest) -> User:
    return cast(User, request.user)


@method_decorator(login_not_required, name="dispatch")
class LoginView(DjangoLoginView):
    authentication_form = LoginForm
    template_name = "accounts/login.html"
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        if not form.cleaned_data["stay"]:
            self.request.session.set_expiry(0)
        return response


@login_not_required
@sensitive_post_parameters("password")
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Make the first administrator and log them in. 404 without a good link."""
    if not setup_link.is_open(token):
        raise Http404
    form = SetupForm(request.POST or None)
    if form.is_valid():
        try:
            user = form.create()
        except AlreadySetUp:
            raise Http404 from None
        login(request, user, backend=BACKEND)
        messages.success(request, f"Welcome, {user.username}. Write your first prompt.")
        return redirect("generation:generate")
    return render(request, "accounts/setup.html", {"form": form})


# One's own account ------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    # A row of its own: what is wrong in the form is not what the bar on top shows.
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=user_of(request).pk))
    if form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("accounts:profile")
    context = {"page": "account", "section": "profile", "form": form}
    return render(request, "accounts/profile.html", context)


@require_safe
def display(request: HttpRequest) -> HttpResponse:
    """Keys and theme: they belong to the browser, whose script keeps them."""
    return render(request, "accounts/display.html", {"page": "account", "section": "display"})


class PasswordView(PasswordChangeView):
    """A new password ends all other sessions; tokens go on."""

    form_class = NewPasswordForm
    template_name = "accounts/password.html"
    success_url = reverse_lazy("accounts:password")
    extra_context = {"page": "account", "section": "password"}  # noqa: RUF012 (Django's view)

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, "The password is changed. Other browsers have to log in again.")
        return super().form_valid(form)


@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """Log out everywhere but here."""
    user = user_of(request)
    user.end_sessions()
    update_session_auth_hash(request, user)
    messages.success(request, "Every other browser is logged out.")
    return redirect("accounts:password")


@require_POST
def renew_token(request: HttpRequest, key: str) -> HttpResponse:
    token = get_object_or_404(ApiToken, user=user_of(request), token_key=key)
    token.renew()
    messages.success(request, f"{token.name} is renewed.")
    return redirect("generation:usage")


@require_POST
def revoke_token(request: HttpRequest, key: str) -> HttpResponse:
    token = get_object_or_404(ApiToken, user=user_of(request), token_key=key)
    token.delete()
    messages.success(request, f"{token.name} is revoked. Programs that send it are refused.")
    return redirect("generation:usage")


# Invitations ------------------------------------------------------------------------------------------


@for_administrators("delete_invitation")
@require_POST
def revoke_invitation(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Only one that is open: those that were used say who came in by them."""
    if not Invitation.objects.filter(pk=pk).revoke():
        raise Http404
    messages.success(request, "The invitation is revoked. Its link is dead.")
    return redirect("generation:people")


@login_not_required
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: HttpRequest, token: str) -> HttpResponse:
    """Make an account of one's own by a link, and log in. One page for all links that lead nowhere."""
    invitation = Invitation.objects.of_token(token).first()
    if invitation is None:
        return _closed(request)
    form = InvitedForm(request.POST or None, invitation=invitation)
    if form.is_valid():
        try:
            user = form.create()
        except InvitationClosed:
            return _closed(request)
        except IntegrityError:
            form.add_error("username", "This name was taken just now. Choose another.")
        else:
            login(request, user, backend=BACKEND)
            messages.success(request, f"Welcome, {user.username}. Write your first prompt.")
            return redirect("generation:generate")
    return render(request, "accounts/invite.html", {"form": form, "invitation": invitation})


def _closed(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/invitation_closed.html", status=404)
