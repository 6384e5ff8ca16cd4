"""The web process's entry point: ``gunicorn fluxsite.wsgi``."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fluxsite.settings")
application = get_wsgi_application()

from fluxsite.bodies import Utf8Request  # noqa: E402 (it needs the settings)

application.request_class = Utf8Request
