"""Every variable that ``fluxsite/settings.py`` reads, as its code and comments have them.

The page docs/settings.md is made of it (``manage.py settings_reference``), and a name that is not in it is
probably misspelt: see the check W004.
"""

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("settings.py")
PREFIX = "FLUXSITE_"
# All names begin alike, so that the library's own 0.6 finds a likeness everywhere.
_NEAR = 0.8
# What each of environ's readers takes.
_TYPES = {
    "str": "text", "int": "whole number", "float": "number", "bool": "yes or no",
    "list": "texts with commas between", "db_url": "URL of a database",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """``default`` is code where it is not a plain value."""

    name: str
    section: str
    type: str
    default: str
    meaning: str


@cache
def settings() -> list[Setting]:
    """In the order of the file."""
    source = SOURCE.read_text()
    lines = source.splitlines()
    calls = sorted(_calls(ast.parse(source)), key=lambda call: call.lineno)
    return [_setting(call, lines) for call in calls]


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"env\.\w+", ast.unparse(node.func)):
            yield node


def _setting(call: ast.Call, lines: Sequence[str]) -> Setting:
    default = next(word.value for word in call.keywords if word.arg == "default")
    return Setting(
        name=ast.literal_eval(call.args[0]),
        section=_section(lines[: call.lineno]),
        type=_TYPES[ast.unparse(call.func).removeprefix("env.")],
        default=_default(default),
        meaning=_comment_above(lines[: call.lineno - 1]),
    )


def _default(node: ast.expr) -> str:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return f"`{ast.unparse(node)}`"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if value not in ("", []) else "–"


def _section(above: Sequence[str]) -> str:
    """Of the last line such as ``# Web ----``."""
    headings = (re.match(r"# (.+?) -{5,}$", line) for line in reversed(above))
    return next((found.group(1) for found in headings if found), "")


def _comment_above(above: Sequence[str]) -> str:
    """The comment over the paragraph of code that the line is in: several settings may share one."""
    comment: list[str] = []
    for line in reversed(above):
        is_comment = line.lstrip().startswith("# ")
        if (comment and not is_comment) or not line.strip() or line.endswith("-----"):
            break
        if is_comment:
            comment.insert(0, line.strip().removeprefix("# "))
    return " ".join(comment)


def unknown(names: Iterator[str] | Sequence[str]) -> dict[str, str]:
    """Those of ``names`` with our prefix that nothing reads, and the nearest that something does, or ""."""
    known = [setting.name for setting in settings()]
    strangers = sorted(name for name in names if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, 1, _NEAR)), "") for name in strangers}


def page() -> str:
    """As Markdown."""
    lines = [
        "# Settings",
        "",
        "All of them come from the environment and all have a default. This page is made from the code: "
        "`manage.py settings_reference`.",
    ]
    section = None
    for each in settings():
        if each.section != section:
            section = each.section
            lines += ["", f"## {section}", "", "| name | type | default | meaning |", "|---|---|---|---|"]
        meaning = each.meaning.replace("|", r"\|")
        lines.append(f"| `{each.name}` | {each.type} | {each.default} | {meaning} |")
    return "\n".join([*lines, ""])
