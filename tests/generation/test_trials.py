"""What becomes of a LoRA once it is uploaded: on the real demo model."""

from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models.fields.files import FieldFile
from django.db.models.functions import Now

from accounts.models import UsageEntry, User
from files.local import LocalStorage
from files.storage import Away
from generation import quotas, trials
from generation.models import Image, Job, JobLora
from generation.runner import WorkerProcess
from gpu.engines import LoraFailed, OutOfMemory
from gpu.models import Mode, Worker
from loras import library, uploads
from loras.models import Admission, Lora
from tests.conftest import client_of, submit
from tests.generation.test_runner import broken, fail, new_process

NIGHT = library.DEMO_LORAS / "night.safetensors"


def upload(owner: User, name: str = "Night") -> Lora:
    """What the page, the API and the command do with a file."""
    with uploads.receive(owner, [NIGHT.read_bytes()], NIGHT.stat().st_size) as incoming:
        return incoming.keep(incoming.inspect(), name=name)


def worker(engine: str, **facts: Any) -> Worker:
    return Worker.start("studio", "cpu", engine, 1, **facts)


@pytest.fixture
def process(db: None, monkeypatch: pytest.MonkeyPatch) -> WorkerProcess:
    monkeypatch.setattr(trials, "LONGEST_SIDE", 64)  # quick to draw
    return new_process()


def run_all(process: WorkerProcess) -> None:
    while process.run_next_job() != "nothing to do":
        pass


def read(file: FieldFile) -> bytes:
    with default_storage.open(str(file)) as opened:
        return bytes(opened.read())


def states(lora: Lora) -> dict[str, str]:
    return dict(lora.admissions.values_list("engine", "state"))


def test_a_lora_is_drawn_with_and_without_before_it_is_ready(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    assert lora.state == Lora.State.VALIDATING
    without, drawn_with = Job.objects.order_by("id")
    assert [one.weight for one in drawn_with.job_loras.all()] == [1.0]
    assert not without.job_loras.exists()
    same = ("prompt", "seed", "width", "height", "steps", "engine", "priority", "owner")
    assert all(getattr(without, name) == getattr(drawn_with, name) for name in same)

    run_all(process)
    lora.refresh_from_db()
    assert (lora.state, lora.reason, states(lora)) == ("ready", "", {"bf16": "works"})
    previews = [read(lora.preview), read(lora.preview_without)]
    assert previews[0] != previews[1]
    assert all(preview[8:12] == b"WEBP" for preview in previews)


@pytest.mark.django_db(transaction=True)
def test_a_trial_is_nobodys(process: WorkerProcess, alice: User) -> None:
    """It is in nobody's gallery, history or balance, and after it nothing of it lies on the disk."""
    before = quotas.balances(alice)
    lora = upload(alice)
    run_all(process)
    assert not Job.objects.visible_to(alice).exists()
    assert client_of(alice).get("/api/v1/jobs/").json()["results"] == []
    size_alone = {balance.name: balance.used for balance in quotas.balances(alice)}
    assert size_alone == {balance.name: balance.used for balance in before} | {
        "storage_mb": lora.size / 1e6,
    }
    assert {(entry.user, entry.outcome) for entry in UsageEntry.objects.all()} == {(None, "succeeded")}
    assert not Image.objects.exists()
    assert Lora.objects.get().uses == 0
    assert [path.parent.parent.name for path in _files()] == ["previews"] * 2


def _files() -> list[Path]:
    root = Path(default_storage.path(""))
    return [path for path in root.rglob("*") if path.is_file() and path.suffix in (".png", ".webp")]


def test_everybodys_jobs_go_before_trials(process: WorkerProcess, alice: User, bob: User) -> None:
    upload(alice)
    job = submit(bob)
    process.run_next_job()
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED


def test_a_lora_is_tried_on_each_engine_that_takes_jobs(process: WorkerProcess, alice: User) -> None:
    worker("fp4")
    lora = upload(alice)
    assert states(lora) == {"fp4": "trying", "bf16": "trying"}
    run_all(process)
    lora.refresh_from_db()
    assert lora.state == Lora.State.VALIDATING  # FP4 did not draw yet
    Worker.objects.filter(engine="fp4").update(mode=Mode.PAUSE)
    cache.clear()
    trials.sweep()
    lora.refresh_from_db()
    assert (lora.state, states(lora)) == ("ready", {"bf16": "works"})
    assert Job.objects.get(engine="fp4", lora_set="").state == Job.State.CANCELLED


def test_without_any_worker_it_is_ready_untried_and_tried_when_one_comes(alice: User) -> None:
    lora = upload(alice)
    trials.go_on()
    lora.refresh_from_db()
    assert (lora.state, states(lora)) == ("ready", {})
    process = new_process()
    cache.clear()
    trials.sweep()
    lora.refresh_from_db()
    assert (lora.state, states(lora)) == ("ready", {"bf16": "trying"})
    run_all(process)
    assert states(lora) == {"bf16": "works"}


def test_only_some_are_tried_at_a_time_and_all_in_the_end(process: WorkerProcess, alice: User) -> None:
    loras = [upload(alice, f"Night {n}") for n in range(trials.MOST_AT_ONCE + 2)]
    assert Job.objects.count() == 2 * trials.MOST_AT_ONCE
    assert {lora.state for lora in Lora.objects.all()} == {"validating"}
    run_all(process)
    assert Job.objects.count() == 2 * len(loras)
    assert {lora.state for lora in Lora.objects.all()} == {"ready"}


def test_one_that_the_engine_cannot_use_is_refused_with_its_reason(
    process: WorkerProcess, alice: User
) -> None:
    lora = upload(alice)
    Lora.objects.filter(pk=lora.pk).update(facts=lora.facts | {"changes": 1})
    run_all(process)
    lora.refresh_from_db()
    assert (lora.state, states(lora)) == ("refused", {"bf16": "refused"})
    assert lora.reason.startswith("Night cannot be used: its file promises to change 1 modules")
    assert not Lora.objects.usable_by(alice, "demo").exists()


def test_one_that_was_refused_may_be_tried_again(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    Lora.objects.filter(pk=lora.pk).update(facts=lora.facts | {"changes": 1})
    run_all(process)
    Lora.objects.filter(pk=lora.pk).update(facts=lora.facts)
    trials.begin_again(lora)
    lora.refresh_from_db()
    assert lora.state == Lora.State.VALIDATING
    run_all(process)
    lora.refresh_from_db()
    assert (lora.state, lora.reason) == ("ready", "")


def test_one_that_changes_nothing_is_refused(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    JobLora.objects.update(weight=0.0)
    run_all(process)
    lora.refresh_from_db()
    assert (lora.state, lora.reason) == ("refused", trials.NO_EFFECT)
    assert not lora.preview


@pytest.mark.parametrize(
    ("without", "drawn_with", "admission", "lora_state"),
    [
        (("succeeded", ""), ("failed", LoraFailed.code), "refused", "refused"),
        (("succeeded", ""), ("failed", "worker_died"), "refused", "refused"),
        (("succeeded", ""), ("failed", OutOfMemory.code), "undecided", "ready"),
        (("failed", "worker_died"), ("failed", "worker_died"), "undecided", "ready"),
        (("succeeded", ""), ("cancelled", ""), "undecided", "ready"),
    ],
)
def test_only_what_is_its_own_fault_speaks_against_it(
    without: Any, drawn_with: Any, admission: str, lora_state: str, alice: User
) -> None:
    worker("bf16")
    lora = upload(alice)
    for job, (state, code) in zip(Job.objects.order_by("id"), (without, drawn_with), strict=True):
        Job.objects.filter(pk=job.pk).update(
            state=state, error_code=code, error="Because.", finished_at=Now()
        )
    trials.sweep()
    lora.refresh_from_db()
    assert (states(lora), lora.state) == ({"bf16": admission}, lora_state)
    assert lora.admissions.get().reason in ("Because.", "Its trial was cancelled.")


def test_a_fault_of_the_engine_leaves_it_undecided(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    run_all(broken(process, fail(OutOfMemory("It is full.")), seed=trials.SEED))
    lora.refresh_from_db()
    assert (lora.state, states(lora)) == ("ready", {"bf16": "undecided"})


def test_one_that_works_on_one_engine_is_ready_and_cannot_be_asked_for_on_the_other(
    process: WorkerProcess, alice: User
) -> None:
    lora = upload(alice)
    Admission.objects.create(lora=lora, engine="fp4", state="refused", reason="12 layers are missing.")
    run_all(process)
    asked = {"prompt": "a circle", "loras": [{"slug": lora.slug}]}
    refused = client_of(alice).post("/api/v1/jobs/", asked | {"engine": "fp4"}, format="json")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["attr"] == "loras"
    assert "Night does not work on FP4: 12 layers are missing. Use BF16." in refused.content.decode()
    assert client_of(alice).post("/api/v1/jobs/", asked, format="json").status_code == 201


def test_it_can_be_tried_again_without_going_away_meanwhile(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    run_all(process)
    trials.begin_again(lora)
    trials.begin_again(lora)  # nothing more while it is tried
    lora.refresh_from_db()
    assert (lora.state, states(lora), Job.objects.count()) == ("ready", {"bf16": "trying"}, 4)
    run_all(process)
    assert states(lora) == {"bf16": "works"}


@pytest.mark.django_db(transaction=True)
def test_a_lora_deleted_during_its_trial_leaves_nothing(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    process.run_next_job()
    library.delete(lora)
    run_all(process)
    trials.sweep()
    assert not Image.objects.exists()
    assert not _files()
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded", "cancelled"}


def test_a_trial_whose_end_nobody_saw_is_concluded_by_the_sweeper(
    process: WorkerProcess, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = upload(alice)
    with monkeypatch.context() as cut:
        cut.delattr(trials, "conclude")
        run_all(process)
    assert states(lora) == {"bf16": "trying"}
    trials.sweep()
    lora.refresh_from_db()
    assert (lora.state, states(lora)) == ("ready", {"bf16": "works"})


def test_a_trial_whose_pictures_are_lost_does_not_hold_up_the_others(
    process: WorkerProcess, alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost, gone, whole = (upload(alice, name) for name in ("Lost", "Gone", "Whole"))
    with monkeypatch.context() as cut:
        cut.delattr(trials, "conclude")
        run_all(process)
    default_storage.delete(str(Image.objects.get(job__trial__lora=lost, job__lora_set="").file))
    Image.objects.filter(job__trial__lora=gone).delete()
    trials.sweep()
    assert [states(lora)["bf16"] for lora in (lost, gone, whole)] == ["undecided", "undecided", "works"]
    assert lost.admissions.get().reason == trials.UNREADABLE
    assert set(Lora.objects.values_list("state", flat=True)) == {"ready"}
    assert not Image.objects.exists()
    assert "What the trial Lost on bf16" in caplog.text


def test_a_file_store_that_is_away_decides_nothing(
    process: WorkerProcess, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise Away("The file store does not answer")

    lora = upload(alice)
    with monkeypatch.context() as cut:
        cut.setattr(LocalStorage, "open", away)
        run_all(process)
        with pytest.raises(Away):
            trials.sweep()
    assert states(lora) == {"bf16": "trying"}
    trials.sweep()
    assert states(lora) == {"bf16": "works"}


def test_what_the_owner_chose_stays_the_preview(process: WorkerProcess, alice: User) -> None:
    lora = upload(alice)
    library.set_preview(lora, ContentFile(b"RIFF....WEBP"))
    run_all(process)
    lora.refresh_from_db()
    assert (read(lora.preview), str(lora.preview_without)) == (b"RIFF....WEBP", "")
