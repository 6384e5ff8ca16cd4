"""``manage.py models``, and a worker that draws with what it shared."""

import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from files import shared_models
from gpu.model_card import ModelCard
from gpu.model_size import ModelSize
from gpu.models import Worker
from tests.conftest import submit
from tests.generation.test_runner import new_process

DEMO = Path(__file__).resolve().parents[2] / "demo" / "model"

# Writing to the storage asks the database whose it is.
pytestmark = pytest.mark.django_db


@pytest.fixture
def shared_demo(media: Path, tmp_path: Path, settings: Any) -> None:
    """The demo model in the file store, and settings that ask for it."""
    assert "On every host set FLUXSITE_MODEL=store:demo" in say("share", str(DEMO), "--name", "demo")
    settings.SHARED_MODEL, settings.FLUXSITE_MODEL = "demo", str(tmp_path / "models" / "demo")


def say(*words: str) -> str:
    out = StringIO()
    call_command("models", *words, stdout=out)
    return out.getvalue()


@pytest.mark.usefixtures("shared_demo")
def test_they_are_listed_and_the_one_in_use_stays(settings: Any) -> None:
    assert "MB (FLUXSITE_MODEL)" in say("list")
    with pytest.raises(CommandError, match="Set another one on every host first"):
        say("remove", "demo")
    settings.SHARED_MODEL = ""
    assert "MB deleted" in say("remove", "demo")
    assert say("list") == ""


def test_what_is_no_model_is_not_shared(tmp_path: Path, media: Path) -> None:
    with pytest.raises(CommandError, match=r"holds no model_index\.json"):
        say("share", str(tmp_path), "--name", "nothing")
    with pytest.raises(CommandError, match="letters, digits"):
        say("share", str(DEMO), "--name", "../demo")
    say("share", str(DEMO), "--name", "demo")
    other = tmp_path / "demo"
    shutil.copytree(DEMO, other)
    (other / "fluxsite.json").write_text("{}")
    with pytest.raises(CommandError, match="another model called demo"):
        say("share", str(other))


@pytest.mark.usefixtures("shared_demo")
def test_its_size_is_known_before_its_weights_are_there(settings: Any) -> None:
    shared_models.fetch("demo", Path(settings.FLUXSITE_MODEL), weights=False)
    assert ModelSize.of(settings.FLUXSITE_MODEL) == ModelSize.of(str(DEMO))
    assert ModelCard.of(settings.FLUXSITE_MODEL).demo


@pytest.mark.usefixtures("shared_demo")
@pytest.mark.django_db
def test_a_worker_fetches_it_before_it_takes_a_job(alice: User, settings: Any) -> None:
    shared_models.fetch("demo", Path(settings.FLUXSITE_MODEL), weights=False)
    job = submit(alice)
    process = new_process()
    settings.SHARED_MODEL = "misspelt"
    said = process.run_next_job()
    assert said == "Waits for the model: There is no shared model misspelt. There are: demo."
    worker = Worker.objects.get()
    assert (worker.state, worker.note, process.rest > 0) == ("waiting", said, True)
    process.beat()  # which looks again whether it can start
    assert Worker.objects.get().state == "waiting"
    settings.SHARED_MODEL = "demo"
    process.run_next_job()
    job.refresh_from_db()
    assert (job.state, job.images.get().model, job.attempt) == ("succeeded", process.card.name, 1)
