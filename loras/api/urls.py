from django.urls import include, path
from rest_framework.routers import SimpleRouter

from loras.api import views

app_name = "loras-api"
router = SimpleRouter(use_regex_path=False)
router.register("loras", views.LoraViewSet, basename="lora")
urlpatterns = [path("", include(router.urls))]
