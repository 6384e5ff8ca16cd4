"""Static files are collected anew when they have changed, and only then."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command


@pytest.fixture
def source(tmp_path: Path, settings: Any) -> Path:
    """The only static file that there is."""
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS = [tmp_path / "static"]
    settings.STATIC_ROOT = tmp_path / "collected"
    file = tmp_path / "static" / "page.css"
    file.parent.mkdir()
    file.write_text("a {}")
    return file


def change(source: Path) -> None:
    source.write_text("a { color: red }")
    os.utime(source, (time.time() + 10,) * 2)  # Django takes what is as old as its copy for unchanged


def collected(source: Path) -> Path:
    call_command("collectstatic", interactive=False, verbosity=0)
    return source.parent.parent / "collected" / "page.css"


def test_what_is_unchanged_is_left_alone(source: Path) -> None:
    collected(source).write_text("as it was left")
    assert collected(source).read_text() == "as it was left"


def test_what_has_changed_comes_again(source: Path) -> None:
    collected(source)
    change(source)
    assert collected(source).read_text() == "a { color: red }"


def test_who_was_killed_meanwhile_begins_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collected(source)
    change(source)
    with monkeypatch.context() as cut:
        cut.setattr("django.core.files.storage.FileSystemStorage.save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collected(source)
    assert collected(source).read_text() == "a { color: red }"
