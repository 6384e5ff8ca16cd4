from django.urls import path

from generation import views

app_name = "generation"
urlpatterns = [
    path("", views.generate, name="generate"),
    path("settings-from-picture/", views.settings_from_picture, name="settings-from-picture"),
    path("prompts/", views.prompts, name="prompts"),
    path("loras/pick/", views.pick, name="pick"),
    path("jobs/status/", views.jobs_status, name="jobs-status"),
    path("jobs/<uuid:pk>/", views.job, name="job"),
    path("jobs/<uuid:pk>/cancel/", views.cancel, name="cancel"),
    path("gallery/", views.gallery, name="gallery"),
    path("images/<uuid:pk>/", views.image, name="image"),
    path("images/<uuid:pk>/file/", views.image_file, name="image-file"),
    path("images/<uuid:pk>/thumbnail/", views.image_thumbnail, name="image-thumbnail"),
    path("history/", views.history, name="history"),
    path("workers/", views.workers, name="workers"),
    path("workers/status/", views.workers_status, name="workers-status"),
    path("workers/<uuid:pk>/mode/", views.worker_mode, name="worker-mode"),
    path("workers/engines/<str:engine>/mode/", views.engine_mode, name="engine-mode"),
]
