"""Logging in and out, and the first run."""

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView as DjangoLoginView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from accounts import setup as setup_link
from accounts.forms import LoginForm, SetupForm
from accounts.models import AlreadySetUp


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
        login(request, user, backend="accounts.backends.UsernameOrEmailBackend")
        messages.success(request, f"Welcome, {user.username}. Write your first prompt.")
        return redirect("generation:generate")
    return render(request, "accounts/setup.html", {"form": form})
