"""The text ``parameters`` that AUTOMATIC1111's web UI began to write into pictures, and others read.

    a lighthouse <lora:paper-relief:0.8>
    Negative prompt: blurry
    Steps: 4, Sampler: Euler, CFG scale: 1, Seed: 42, Size: 1024x1024, Model: flux1-schnell

Written as Civitai's parser takes it; read as A1111, Forge and those that imitate them write it.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

# Longer texts are no prompt: A1111's own are below 10,000 characters, wildcards and ControlNets included.
MAX_TEXT = 100_000
# Tags and settings that are looked at.
MAX_READ = 100
_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]{1,200})((?::[^:<>]{0,40}){0,3})>")
# A tag and the comma before it. Bounded, or a run of spaces would take its length squared.
_CUT = re.compile(r"[ \t]{0,9}(?:,[ \t]{0,9})?" + _TAG.pattern)
_DETAILS = re.compile(r"^Steps: ?\d", re.MULTILINE)
_HASHES = re.compile(r"(?:^|, )Hashes: ?(\{[^{}]*\})")
_RESOURCES = re.compile(r"(?:^|, )Civitai (?:resources|metadata): ?(?:\[[^\[\]]*\]|\{[^{}]*\})")
_UNSOUND = re.compile("[\0\ud800-\udfff]")
_KEY = re.compile(r"[\w][\w \-/]{0,60}")


@dataclass(frozen=True)
class Tag:
    """A LoRA of a prompt. ``weight``: None where it is no number. ``hash``: in hex, of whatever kind.

    ``second``: the weight for the other part of the model, where the tag has two that differ.
    """

    name: str
    weight: float | None = 1.0
    hash: str = ""
    second: str = ""


@dataclass(frozen=True)
class Infotext:
    """What a text of parameters says. ``details``: the settings in their order, ``Steps`` first."""

    prompt: str
    negative_prompt: str = ""
    loras: tuple[Tag, ...] = ()
    hypernets: tuple[str, ...] = ()
    details: dict[str, str] = field(default_factory=dict)


# Writing --------------------------------------------------------------------------------------------


def written(prompt: str, loras: Iterable[Tag], details: dict[str, object]) -> str:
    """The text. A LoRA's name must be of letters, digits, dots and dashes; Civitai finds no other."""
    loras = list(loras)
    tags = "".join(f" <lora:{lora.name}:{_plain(lora.weight or 0)}>" for lora in loras)
    lines = dict(details)
    if loras:
        lines["Lora hashes"] = ", ".join(f"{lora.name}: {lora.hash}" for lora in loras)
    return f"{prompt}{tags}\n" + ", ".join(f"{key}: {_quoted(value)}" for key, value in lines.items())


def _plain(number: float) -> str:
    """Without an exponent, which no parser reads."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _quoted(value: object) -> str:
    """The value, in quotes where it would be taken for several."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search('[,:\n"]', text) else text


# Reading --------------------------------------------------------------------------------------------


def read(text: str) -> Infotext:
    """What the text says. There is nothing that cannot be read: without details all of it is prompt."""
    prompts, line = _split(cleaned(text[:MAX_TEXT]).strip())
    prompt, _, negative = prompts.partition("\nNegative prompt:")
    if prompts.startswith("Negative prompt:"):
        prompt, negative = "", prompts.removeprefix("Negative prompt:")
    hashes, line = _hashes(line)
    details = dict(islice(_details(line), MAX_READ))
    hashes |= dict(_pairs(details.pop("Lora hashes", "")))
    tags = list(islice(_TAG.finditer(prompt), MAX_READ))
    return Infotext(
        _CUT.sub("", prompt).strip(" \t\n,") if tags else prompt.strip(),
        negative.strip(),
        tuple(_tag(tag, hashes) for tag in tags if tag[1] != "hypernet"),
        tuple(tag[2] for tag in tags if tag[1] == "hypernet"),
        details,
    )


def cleaned(text: str) -> str:
    """The text without what no database and no page can hold: NUL, and halves of characters."""
    return _UNSOUND.sub("", text)


def _split(text: str) -> tuple[str, str]:
    """The prompts, and the line of details: the last one that looks like it."""
    starts = [found.start() for found in _DETAILS.finditer(text)]
    if not starts:
        return text, ""
    line, _, _after = text[starts[-1] :].partition("\n")
    return text[: starts[-1]].rstrip(), line


def _hashes(line: str) -> tuple[dict[str, str], str]:
    """The hashes of LoRAs that stand as JSON in a line, by name; and the line without what is JSON."""
    hashes: dict[str, str] = {}
    if found := _HASHES.search(line):
        with contextlib.suppress(ValueError):
            hashes = {
                cleaned(key.removeprefix("lora:")): cleaned(str(value))
                for key, value in json.loads(found[1]).items()
                if key.startswith("lora:")
            }
    return hashes, _RESOURCES.sub("", _HASHES.sub("", line))


def _details(line: str) -> Iterator[tuple[str, str]]:
    for part in _parts(line):
        key, colon, value = part.strip().partition(":")
        if colon and _KEY.fullmatch(key):
            yield key, _unquoted(value.strip())


def _parts(line: str) -> Iterator[str]:
    """The line cut at its commas, but not within quotes."""
    start, quoted = 0, False
    for mark in re.finditer(r'\\.|[",]', line):
        if mark[0] == '"':
            quoted = not quoted
        elif mark[0] == "," and not quoted:
            yield line[start : mark.start()]
            start = mark.end()
    yield line[start:]


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        with contextlib.suppress(ValueError):
            return cleaned(str(json.loads(value)))
        return value[1:-1]
    return value


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """``name: hash, name: hash``."""
    for pair in text.split(",")[:MAX_READ]:
        name, colon, value = pair.rpartition(":")
        if colon:
            yield name.strip(), value.strip()


def _tag(tag: re.Match[str], hashes: dict[str, str]) -> Tag:
    """A LoRA. After its name: one weight, or one for the text encoder and one for the other part."""
    numbers = [part for part in tag[3].split(":")[1:] if part]
    name = tag[2].strip()
    weight = _number(numbers[0]) if numbers else 1.0
    second = numbers[1] if len(numbers) > 1 and _number(numbers[1]) != weight else ""
    return Tag(name, weight, hashes.get(name, ""), second)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
