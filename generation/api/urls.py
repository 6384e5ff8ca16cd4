from django.urls import include, path
from rest_framework.routers import SimpleRouter

from generation.api.views import collections, images, jobs, studio

app_name = "api"
router = SimpleRouter(use_regex_path=False)
router.register("jobs", jobs.JobViewSet, basename="job")
router.register("images", images.ImageViewSet, basename="image")
router.register("collections", collections.CollectionViewSet, basename="collection")
router.register("engines", studio.EngineViewSet, basename="engine")
router.register("workers", studio.WorkerViewSet, basename="worker")
urlpatterns = [path("me/", studio.MeView.as_view(), name="me"), path("", include(router.urls))]
