"""Collections: a list of them, to make, rename and delete."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from generation.collection_form import CollectionForm
from generation.models import Collection
from generation.views.shared import user_of


@require_http_methods(["GET", "HEAD", "POST"])
def collections(request: HttpRequest) -> HttpResponse:
    """All of the user's. A POST makes one."""
    user = user_of(request)
    form = CollectionForm(request.POST or None, instance=Collection(owner=user))
    if form.is_valid():
        messages.success(request, f"{form.save()} is there. Add pictures to it in the gallery.")
        return redirect("generation:collections")
    mine = Collection.objects.visible_to(user).with_counts()
    context = {"page": "gallery", "collections": mine, "form": form}
    return render(request, "generation/collections.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def collection(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One, to give it another name or to delete it. Its pictures are in the gallery."""
    found = get_object_or_404(Collection.objects.visible_to(user_of(request)), pk=pk)
    form = CollectionForm(request.POST or None, instance=found)
    if form.is_valid():
        messages.success(request, f"{form.save()} is the name now")
        return redirect("generation:collections")
    context = {"page": "gallery", "pk": pk, "form": form, "links": found.share_links.open().count()}
    return render(request, "generation/collection.html", context, status=400 if form.errors else 200)


@require_http_methods(["POST"])
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The collection is gone; its pictures stay."""
    found = get_object_or_404(Collection.objects.visible_to(user_of(request)), pk=pk)
    found.delete()
    messages.success(request, f"{found} is deleted. Its pictures stay.")
    return redirect("generation:collections")
