from django.urls import path

from loras import views

app_name = "loras"
urlpatterns = [
    path("loras/", views.library, name="library"),
    path("loras/upload/", views.upload, name="upload"),
    path("loras/<slug:slug>/", views.detail, name="detail"),
    path("loras/<slug:slug>/delete/", views.delete, name="delete"),
    path("loras/<slug:slug>/preview/", views.preview, name="preview"),
]
