"""The address of everything."""

from django.contrib import admin
from django.urls import include, path

from fluxsite import views
from operations import views as watch

urlpatterns = [
    path("healthz", views.healthz),
    path("readyz", watch.readyz, name="readyz"),
    path("metrics", watch.prometheus, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("generation.api.urls")),
    path("api/v1/", include("loras.api.urls")),
    path("", include("accounts.urls")),
    path("", include("generation.urls")),
    path("", include("loras.urls")),
]
