from django.urls import include, path
from rest_framework.routers import SimpleRouter

from generation.api import views

app_name = "api"
router = SimpleRouter(use_regex_path=False)
router.register("jobs", views.JobViewSet, basename="job")
router.register("images", views.ImageViewSet, basename="image")
urlpatterns = [path("me/", views.MeView.as_view(), name="me"), path("", include(router.urls))]
