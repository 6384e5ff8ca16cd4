"""The documents name only what exists: links, settings, commands with their options, modules and files."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

from fluxsite import settings_reference

ROOT = Path(settings.BASE_DIR)
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "demo" / "README.md"]
)
# Variables of clients and of the tests.
NOT_SETTINGS = {"FLUXSITE_", "FLUXSITE_TOKEN", "FLUXSITE_TEST_DATABASE"}
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
PATH = re.compile(r"(?<![\w./:~-])[\w-]+(?:/[\w.-]+)+\.(?:py|md|sh|conf|yaml|txt|json|js|css|toml)\b")
COMMAND = re.compile(r"(?:manage\.py|\$manage) (?P<name>[a-z_]+)(?P<rest>[^`\n#;]*)")
MODULE = re.compile(r"python -m (?P<name>[\w.]+)")

documents = pytest.mark.parametrize("document", DOCUMENTS)


def text_of(document: str) -> str:
    return (ROOT / document).read_text()


@cache
def anchors_of(path: Path) -> set[str]:
    """The anchors that the headings of a document get."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dangling(document: str) -> Iterator[str]:
    here = (ROOT / document).parent
    for match in LINK.finditer(CODE.sub("", text_of(document))):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (here / target).resolve() if target else ROOT / document
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            yield match["target"]


@documents
def test_every_link_leads_somewhere(document: str) -> None:
    assert list(dangling(document)) == []


@documents
def test_every_setting_exists(document: str) -> None:
    known = {each.name for each in settings_reference.settings()} | NOT_SETTINGS
    assert set(re.findall(r"\bFLUXSITE_[A-Z0-9_]*", text_of(document))) - known == set()


@cache
def options_of(command: str) -> set[str]:
    """All options of a command, those of its subcommands included."""
    app = get_commands()[command]
    created = load_command_class(app, command) if isinstance(app, str) else app
    return set(_options(created.create_parser("manage.py", command)))


def _options(parser: ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        below = list(action.choices.values()) if isinstance(action.choices, dict) else []
        for each in below:
            yield from _options(each) if isinstance(each, ArgumentParser) else ()


@documents
def test_every_command_and_option_of_manage_py_exists(document: str) -> None:
    unknown = [
        match[0]
        for match in COMMAND.finditer(text_of(document))
        if match["name"] not in get_commands()
        or set(re.findall(r"(?<=[ \[])--[a-z0-9-]+", match["rest"])) - options_of(match["name"])
    ]
    assert unknown == []


@documents
def test_every_module_and_file_exists(document: str) -> None:
    text = text_of(document)
    modules = {match["name"] for match in MODULE.finditer(text)}
    code = " ".join(match[0] for match in CODE.finditer(text))
    files = {found for found in PATH.findall(code) if not re.search(r"(?:^|/)(?:\.venv|var)/", found)}
    assert {name for name in modules if find_spec(name) is None} == set()
    assert {found for found in files if not (ROOT / found).exists()} == set()


@pytest.mark.parametrize(("document", "most"), [("README.md", 1200), ("ARCHITECTURE.md", 1500)])
def test_the_first_documents_are_short(document: str, most: int) -> None:
    assert len(text_of(document).split()) <= most


def test_the_figures_name_every_bench() -> None:
    programs = [path.stem for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text()]
    assert {name for name in programs if f"python -m bench.{name}" not in text_of("docs/figures.md")} == set()


def test_the_readme_leads_to_every_document() -> None:
    """By its own links, or by those of the documents that these lead to."""
    reached, left = set(), ["README.md"]
    while left:
        document = left.pop()
        reached.add(document)
        here = (ROOT / document).parent
        found = (
            (here / match["target"].partition("#")[0]).resolve() for match in LINK.finditer(text_of(document))
        )
        names = {str(path.relative_to(ROOT)) for path in found if path.suffix == ".md" and path.exists()}
        left += names - reached
    assert set(DOCUMENTS) - reached == set()
