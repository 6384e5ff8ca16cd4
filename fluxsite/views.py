"""Views that belong to no app."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the web process answers. It looks at nothing else: that is what a restart can mend."""
    return HttpResponse("ok\n", content_type="text/plain")
