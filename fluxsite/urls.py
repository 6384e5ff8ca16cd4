"""The address of everything."""

from django.contrib import admin
from django.urls import include, path, re_path

from fluxsite import views
from operations import views as watch

urlpatterns = [
    path("healthz", views.healthz),
    path("readyz", watch.readyz, name="readyz"),
    path("metrics", watch.prometheus, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/v1/schema/", views.schema, name="schema"),
    path("api/v1/docs/", views.swagger, name="swagger"),
    path("api/v1/redoc/", views.redoc, name="redoc"),
    path("api/v1/", include("generation.api.urls")),
    path("api/v1/", include("loras.api.urls")),
    re_path(r"^api/v1/(?P<rest>[\s\S]+)\Z", views.NothingHere.as_view()),
    path("v1/", include("generation.openai_api.urls")),
    path("", include("accounts.urls")),
    path("", include("generation.urls")),
    path("", include("loras.urls")),
]

handler400 = "fluxsite.views.bad_request"
