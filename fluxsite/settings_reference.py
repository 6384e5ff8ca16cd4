"""Every variable that ``fluxsite/settings.py`` reads, taken from its code and comments.

``manage.py settings_reference`` prints docs/settings.md from it. A name that is not in it is probably
misspelt: see the check W004.
"""

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path

from gpu.engines import EngineConfig

SOURCE = Path(__file__).with_name("settings.py")
PREFIX = "FLUXSITE_"
# All names share a prefix, so difflib's own 0.6 would find a similar name for any text.
_NEAR = 0.8
# If a default is an expression, the comment of its setting ends with these words and the default as a person
# would write it.
_DEFAULT = " Default: "
# The type that each of environ's readers returns.
_TYPES = {
    "str": "text", "int": "whole number", "float": "number", "bool": "yes or no",
    "list": "texts with commas between", "db_url": "URL of a database",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One variable. ``type``, ``default`` and ``meaning`` are cells of a Markdown table."""

    name: str
    section: str
    type: str
    default: str
    meaning: str


@cache
def settings() -> list[Setting]:
    """All settings, in the order of the file."""
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
    meaning, _, written = _comment_above(lines[: call.lineno - 1]).partition(_DEFAULT)
    return Setting(
        name=ast.literal_eval(call.args[0]),
        section=_section(lines[: call.lineno]),
        type=_TYPES[ast.unparse(call.func).removeprefix("env.")],
        default=written.rstrip(".") or _default(default),
        meaning=meaning,
    )


def _default(node: ast.expr) -> str:
    """A default as a person would write it into the environment; empty if it is an expression."""
    code = ast.unparse(node)
    try:
        is_of_engines = code.startswith("EngineConfig.")
        value = attrgetter(code.partition(".")[2])(EngineConfig) if is_of_engines else ast.literal_eval(node)
    except ValueError:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ",".join(value) if isinstance(value, list) else str(value)
    return f"`{text}`" if text else "–"


def _section(above: Sequence[str]) -> str:
    """The text of the last line such as ``# Web ----``, empty without one."""
    headings = (re.match(r"# (.+?) -{5,}$", line) for line in reversed(above))
    return next((found.group(1) for found in headings if found), "")


def _comment_above(above: Sequence[str]) -> str:
    """The nearest comment above a line, within its paragraph of code."""
    comment: list[str] = []
    for line in reversed(above):
        is_comment = line.lstrip().startswith("# ")
        if (comment and not is_comment) or not line.strip() or line.endswith("-----"):
            break
        if is_comment:
            comment.insert(0, line.strip().removeprefix("# "))
    return " ".join(comment)


def unknown(names: Iterator[str] | Sequence[str]) -> dict[str, str]:
    """Names with our prefix that no setting has, each with the nearest known name, or ""."""
    known = [setting.name for setting in settings()]
    strangers = sorted(name for name in names if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, 1, _NEAR)), "") for name in strangers}


def page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "All settings are environment variables, and all have a default; – is an empty one. This page is "
        "generated from the code: `manage.py settings_reference`.",
    ]
    section = None
    for each in settings():
        if each.section != section:
            section = each.section
            lines += ["", f"## {section}", "", "| name | type | default | meaning |", "|---|---|---|---|"]
        meaning = each.meaning.replace("|", r"\|")
        lines.append(f"| `{each.name}` | {each.type} | {each.default} | {meaning} |")
    return "\n".join([*lines, ""])
