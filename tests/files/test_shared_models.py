"""Models that hosts share, on a disk and in a store."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile, File

from files import shared_models, storage
from files.shared_models import NameTaken
from files.storage import Damaged

DEMO = Path(__file__).resolve().parents[2] / "demo" / "model"


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path
    request.getfixturevalue("media" if request.param == "disk" else "shared")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Small, with what others put beside a model."""
    folder = tmp_path / "flux"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "weights.safetensors").write_bytes(b"0" * 2_000_000)
    (folder / "model_index.json").write_text("{}")
    (folder / "all-in-one.safetensors").write_bytes(b"of another program")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("")
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.usefixtures("place")
def test_what_one_host_shares_another_one_has(tmp_path: Path) -> None:
    parts = shared_models.share(DEMO, "demo", parameters={"t5": 1})
    assert shared_models.names() == ["demo"]
    shared_models.fetch("demo", tmp_path / "here", weights=True)
    fetched = files_in(tmp_path / "here")
    assert fetched.pop("shared.json")
    of_demo = {path: data for path, data in files_in(DEMO).items() if path in {part.path for part in parts}}
    assert fetched == of_demo
    assert "transformer/diffusion_pytorch_model.safetensors" in fetched


@pytest.mark.usefixtures("place")
def test_who_does_not_draw_fetches_no_weights(model: Path, tmp_path: Path) -> None:
    shared_models.share(model, "flux")
    shared_models.fetch("flux", tmp_path / "here", weights=False)
    assert set(files_in(tmp_path / "here")) == {"model_index.json", "shared.json"}


@pytest.mark.usefixtures("place")
def test_files_of_other_programs_stay_where_they_are(model: Path) -> None:
    parts = shared_models.share(model, "flux")
    assert {part.path for part in parts} == {"model_index.json", "vae/weights.safetensors"}


@pytest.mark.usefixtures("place")
def test_a_name_means_one_model_for_ever(model: Path) -> None:
    shared_models.share(model, "flux")
    shared_models.share(model, "flux")
    (model / "model_index.json").write_text('{"other": 1}')
    with pytest.raises(NameTaken):
        shared_models.share(model, "flux")


@pytest.mark.usefixtures("place")
def test_what_is_removed_is_gone_but_for_what_another_model_has(model: Path, tmp_path: Path) -> None:
    shared_models.share(model, "flux")
    (model / "model_index.json").write_text('{"other": 1}')
    shared_models.share(model, "other")
    assert shared_models.remove("flux") == 2
    shared_models.fetch("other", tmp_path / "here", weights=True)
    assert shared_models.remove("other") > 2_000_000
    assert (shared_models.names(), storage.listdir("models/parts")[1]) == ([], [])
    with pytest.raises(FileNotFoundError, match=r"no shared model flux\. There are: none"):
        shared_models.fetch("flux", tmp_path / "here", weights=True)


@pytest.mark.usefixtures("shared")
def test_what_made_room_is_fetched_again(model: Path, tmp_path: Path) -> None:
    shared_models.share(model, "flux")
    here = tmp_path / "here"
    shared_models.fetch("flux", here, weights=True)
    weights = here / "vae" / "weights.safetensors"
    weights.resolve().unlink()
    assert not weights.exists()
    shared_models.fetch("flux", here, weights=True)
    assert weights.stat().st_size == 2_000_000


@pytest.mark.usefixtures("shared")
def test_a_damaged_file_is_not_taken(model: Path, tmp_path: Path) -> None:
    (part, *_) = shared_models.share(model, "flux")
    storage.delete(part.name)
    with (model / "all-in-one.safetensors").open("rb") as file:
        storage.save(part.name, File(file))
    with pytest.raises(Damaged):
        shared_models.fetch("flux", tmp_path / "here", weights=True)


@pytest.mark.usefixtures("shared")
def test_a_cache_that_is_too_small_is_said(model: Path, tmp_path: Path, settings: Any) -> None:
    settings.FLUXSITE_CACHE_MB = 3
    shutil.copytree(model / "vae", model / "transformer")
    (model / "transformer" / "weights.safetensors").write_bytes(b"1" * 2_000_000)
    shared_models.share(model, "flux")
    with pytest.raises(OSError, match=r"The model flux has 4 MB.* FLUXSITE_CACHE_MB larger"):
        shared_models.fetch("flux", tmp_path / "here", weights=True)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", ["../../escaped", "/escaped", "vae//a", "vae/../../a", "a\0b", ""])
def test_an_index_whose_names_lead_elsewhere_is_refused(model: Path, tmp_path: Path, path: str) -> None:
    """A worker host can write to the store; it must not write to other hosts' disks by that."""
    (part, *_) = shared_models.share(model, "flux")
    index = {"parts": [{"path": path, "sha256": part.sha256, "size": part.size}]}
    storage.save("models/hostile.json", ContentFile(json.dumps(index).encode()))
    with pytest.raises(Damaged, match="no file within a model"):
        shared_models.fetch("hostile", tmp_path / "deep" / "here", weights=True)
    assert not list(tmp_path.rglob("escaped"))
