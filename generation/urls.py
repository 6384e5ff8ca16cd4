from django.urls import path

from generation.views import gallery, generate, jobs, picture, workers

app_name = "generation"
urlpatterns = [
    path("", generate.generate, name="generate"),
    path("loras/pick/", generate.pick, name="pick"),
    path("jobs/status/", jobs.jobs_status, name="jobs-status"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="cancel"),
    path("jobs/<uuid:pk>/again/", jobs.again, name="again"),
    path("history/", jobs.history, name="history"),
    path("history/jobs.csv", jobs.history_csv, name="history-csv"),
    path("gallery/", gallery.gallery, name="gallery"),
    path("images/<uuid:pk>/", picture.image, name="image"),
    path("images/<uuid:pk>/file/", picture.image_file, name="image-file"),
    path("images/<uuid:pk>/thumbnail/", picture.image_thumbnail, name="image-thumbnail"),
    path("workers/", workers.workers, name="workers"),
    path("workers/status/", workers.workers_status, name="workers-status"),
    path("workers/<uuid:pk>/mode/", workers.worker_mode, name="worker-mode"),
    path("workers/engines/<str:engine>/mode/", workers.engine_mode, name="engine-mode"),
]
