"""``manage.py import_lora``."""

import re
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from loras.models import Lora
from tests.loras import files
from tests.loras.test_uploads import GOOD, stored


def run(*arguments: str | Path) -> str:
    out = StringIO()
    call_command("import_lora", *map(str, arguments), stdout=out, no_color=True)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    (folder / "below").mkdir(parents=True)
    (folder / "fog.safetensors").write_bytes(GOOD)
    (folder / "below" / "mist.safetensors").write_bytes(files.safetensors(files.demo_lora(rank=3)))
    return folder


def test_a_directory_without_and_with_what_is_below(admin_user: User, folder: Path, media: Path) -> None:
    assert re.search(r"fog.safetensors: fog-[0-9a-f]{6}, 0.0 MB", run(folder))
    assert Lora.objects.get().owner == admin_user
    run(folder, "--recursive", "--everyone")
    assert sorted(Lora.objects.values_list("name", "visibility")) == [
        ("Fog", "everyone"), ("Fog", "private"), ("mist", "everyone"),
    ]  # fmt: skip
    assert len(stored(media)) == 2
    assert (folder / "fog.safetensors").read_bytes() == GOOD


def test_what_is_refused_is_said_and_the_others_are_imported(alice: User, folder: Path) -> None:
    bad = folder / "bad.safetensors"
    bad.write_bytes(b"GGUF" + bytes(90))
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 2 files could not be imported"):
        call_command("import_lora", str(folder), "--owner", "alice", stdout=out, no_color=True)
    assert "bad.safetensors: This is a GGUF file. A LoRA is uploaded as .safetensors." in out.getvalue()
    assert Lora.objects.get().owner == alice


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["nowhere", "--owner", "alice"], "There is no file nowhere"), ([".", "--owner", "eve"], "no user eve"),
     (["."], "no administrator yet"), (["tests/loras", "--owner", "alice"], "no .safetensors file")],
)  # fmt: skip
def test_what_is_wrong_is_named(alice: User, arguments: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        run(*arguments)
