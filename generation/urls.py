from django.urls import path

from generation.views import (
    collections,
    compare,
    gallery,
    generate,
    jobs,
    picture,
    selection,
    shares,
    visitors,
    workers,
)

app_name = "generation"
urlpatterns = [
    path("", generate.generate, name="generate"),
    path("loras/pick/", generate.pick, name="pick"),
    path("jobs/status/", jobs.jobs_status, name="jobs-status"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="cancel"),
    path("history/", jobs.history, name="history"),
    path("gallery/", gallery.gallery, name="gallery"),
    path("trash/", gallery.trash, name="trash"),
    path("trash/empty/", selection.empty_trash, name="empty-trash"),
    *(
        path(f"pictures/{verb}/", selection.act, {"verb": verb}, name=f"pictures-{verb}")
        for verb in selection.VERBS
    ),
    path("pictures/delete/", selection.delete, name="pictures-delete"),
    path("pictures/zip/", selection.download, name="pictures-zip"),
    path("collections/", collections.collections, name="collections"),
    path("collections/<uuid:pk>/", collections.collection, name="collection"),
    path("collections/<uuid:pk>/delete/", collections.delete, name="collection-delete"),
    path("images/<uuid:pk>/", picture.image, name="image"),
    path("images/<uuid:pk>/file/", picture.image_file, name="image-file"),
    path("images/<uuid:pk>/thumbnail/", picture.image_thumbnail, name="image-thumbnail"),
    path("images/<uuid:pk>/compare/", compare.compare, name="compare"),
    path("images/<uuid:pk>/finish/", picture.finish, name="image-finish"),
    path("images/<uuid:pk>/variations/", picture.variations, name="image-variations"),
    path("images/<uuid:pk>/trash/", picture.trash, name="image-trash"),
    path("images/<uuid:pk>/restore/", picture.restore, name="image-restore"),
    path("shares/", shares.shares, name="shares"),
    path("shares/new/", shares.create, name="share-create"),
    path("shares/<uuid:pk>/revoke/", shares.revoke, name="share-revoke"),
    path("s/<str:token>/", visitors.share, name="share"),
    path("s/<str:token>/all.zip", visitors.share_archive, name="share-archive"),
    path("s/<str:token>/<uuid:pk>/", visitors.share_image, name="share-image"),
    path("s/<str:token>/<uuid:pk>/file", visitors.share_file, name="share-file"),
    path("s/<str:token>/<uuid:pk>/thumbnail", visitors.share_thumbnail, name="share-thumbnail"),
    path("s/<path:rest>", visitors.damaged, name="share-damaged"),
    path("workers/", workers.workers, name="workers"),
    path("workers/status/", workers.workers_status, name="workers-status"),
    path("workers/<uuid:pk>/mode/", workers.worker_mode, name="worker-mode"),
    path("workers/engines/<str:engine>/mode/", workers.engine_mode, name="engine-mode"),
]
