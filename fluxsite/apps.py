from django.apps import AppConfig
from django.contrib.admin import apps as admin


class FluxsiteConfig(AppConfig):
    name = "fluxsite"

    def ready(self) -> None:
        from fluxsite import checks  # noqa: F401 (registers the system checks)


class AdminConfig(admin.AdminConfig):
    default = False  # of the two configurations in this module the other one is the app's own
    default_site = "fluxsite.admin.StudioAdminSite"
