from django.urls import path

from generation.views import account, gallery, generate, jobs, people, picture, workers

app_name = "generation"
urlpatterns = [
    path("", generate.generate, name="generate"),
    path("loras/pick/", generate.pick, name="pick"),
    path("jobs/status/", jobs.jobs_status, name="jobs-status"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="cancel"),
    path("history/", jobs.history, name="history"),
    path("gallery/", gallery.gallery, name="gallery"),
    path("images/<uuid:pk>/", picture.image, name="image"),
    path("images/<uuid:pk>/file/", picture.image_file, name="image-file"),
    path("images/<uuid:pk>/thumbnail/", picture.image_thumbnail, name="image-thumbnail"),
    path("account/usage/", account.usage, name="usage"),
    path("account/usage/ledger.csv", account.ledger_csv, name="usage-csv"),
    path("account/people/", people.people, name="people"),
    path("account/people/ledger/", people.ledger, name="ledger"),
    path("account/people/ledger.csv", people.ledger_csv, name="ledger-csv"),
    path("account/people/<int:pk>/offboard/", people.offboard, name="offboard"),
    path("workers/", workers.workers, name="workers"),
    path("workers/status/", workers.workers_status, name="workers-status"),
    path("workers/<uuid:pk>/mode/", workers.worker_mode, name="worker-mode"),
    path("workers/engines/<str:engine>/mode/", workers.engine_mode, name="engine-mode"),
]
