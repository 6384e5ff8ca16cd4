from django.urls import path, re_path

from generation.openai_api import views

app_name = "openai"
urlpatterns = [
    path("models", views.ModelsView.as_view(), name="models"),
    path("models/<path:name>", views.ModelView.as_view(), name="model"),
    path("images/generations", views.GenerationsView.as_view(), name="generations"),
    path("images/edits", views.FromTextOnly.as_view(), name="edits"),
    path("images/variations", views.FromTextOnly.as_view(), name="variations"),
    path("images/files/<str:token>", views.FileView.as_view(), name="file"),
    # A path may hold a line break, which "path" does not take.
    re_path(r"(?P<rest>[\s\S]+)\Z", views.NothingHere.as_view()),
]
