"""The sprite: each icon once, and each that a page names is there."""

import re
from collections import Counter
from pathlib import Path

from django.conf import settings

BASE = Path(settings.BASE_DIR)
# In templates {% icon "name" %}, in scripts icon("name"); names that a filter chooses are in Python.
NAMED = re.compile(r'\bicon(?:\(| )"([a-z0-9-]+)"')


def test_each_icon_is_in_the_sprite_once() -> None:
    names = re.findall(r'<symbol id="([^"]+)"', (BASE / "static/icons/sprite.svg").read_text())
    assert [name for name, times in Counter(names).items() if times > 1] == []


def test_each_icon_that_a_page_names_is_in_the_sprite() -> None:
    sprite = (BASE / "static/icons/sprite.svg").read_text()
    files = [*(BASE / "templates").rglob("*.html"), *(BASE / "static/js").glob("*.js")]
    named = {name: file for file in files for name in NAMED.findall(file.read_text())}
    assert len(named) > 20
    assert {name: str(file) for name, file in named.items() if f'id="{name}"' not in sprite} == {}
