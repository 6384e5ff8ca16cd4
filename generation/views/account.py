"""The pages of an account that need both people and pictures: usage and tokens."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def usage(request: HttpRequest) -> HttpResponse:
    return render(request, "generation/usage.html", {"page": "account"})
