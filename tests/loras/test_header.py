"""Headers that are damaged or made to do harm are refused with the reason, soon and in little memory."""

import io
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from loras import header
from loras.header import Refused
from tests.loras import files

GOOD: files.Tensors = {"a.lora_A.weight": ("F16", (2, 4)), "a.lora_B.weight": ("F16", (4, 2))}
ONE = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
MEBI = 1024**2


def with_(**changed: Any) -> bytes:
    return files.packed({"a": {**ONE["a"], **changed}}, bytes(4))


def without(key: str) -> bytes:
    return files.packed({"a": {name: value for name, value in ONE["a"].items() if name != key}}, bytes(4))


def named(name: str) -> bytes:
    return files.packed({name: ONE["a"]}, bytes(4))


def two(first: list[int], second: list[int], size: int) -> bytes:
    places = {"a": first, "b": second}
    entries = {
        name: {"dtype": "U8" if name == "alpha" else "F8_E4M3", "shape": [4], "data_offsets": place}
        for name, place in places.items()
    }
    return files.packed(entries, bytes(size))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", "x")
    return buffer.getvalue()


DAMAGED, NOT_JSON, NO_TENSORS = "The header is damaged", "it is not JSON", "it is no list of tensors"
REFUSED: dict[str, tuple[bytes, str]] = {
    # Other files
    "empty": (b"", "The file is empty."),
    "one byte": (b"\x01", "no safetensors file"),
    "seven bytes": (bytes(7), "no safetensors file"),
    "zeros": (bytes(64), "no safetensors file"),
    "text": (b"just some words, and more of them", "no safetensors file"),
    "zip": (zipped(), "a ZIP archive"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "a ZIP archive"),
    **{
        f"pickle {protocol}": (pickle.dumps({"a": [1.0]}, protocol), "a Python pickle")
        for protocol in (2, 3, 4, 5)
    },
    "pickle 0": (pickle.dumps({"a": [1.0]}, 0), "no safetensors file"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(64), "a GGUF file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
    "html": (b"<!DOCTYPE html><html><title>Log in</title></html>", "a web page"),
    "html after spaces": (b"\n\n  <html><body>403</body></html>", "a web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "no safetensors file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "no safetensors file"),
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(64), "no safetensors file"),
    "json": (b'{"a": 1, "b": [1, 2, 3]}        ', "no safetensors file"),
    # The length
    "length 0": (bytes(8) + b"{}", "no safetensors file"),
    "length 1": (files.packed(b"{"), "no safetensors file"),
    "length past the end": (b"\x40" + bytes(7) + b"{}", "its beginning or end is missing"),
    "length 2**63": (b"\xff" * 8 + b"{}" * 20, "no safetensors file"),
    "9 MiB of header": (files.packed(b" " * (9 * MEBI)), "at most 8,388,608 are read"),
    # JSON
    "spaces": (files.packed(b"    "), NOT_JSON),
    "half an object": (files.packed(b'{"a":'), NOT_JSON),
    "trailing comma": (files.packed(b'{"a":1,}'), NOT_JSON),
    "two objects": (files.packed(b"{}{}"), NOT_JSON),
    "not UTF-8": (files.packed(b'{"\xff\xfe": 1}'), NOT_JSON),
    "UTF-16": (files.packed('{"a": 1}'.encode("utf-16")), NOT_JSON),
    "a list": (files.packed([ONE]), NO_TENSORS),
    "a number": (files.packed(b"12"), NO_TENSORS),
    "null": (files.packed(b"null"), NO_TENSORS),
    "a string": (files.packed(b'"a"'), NO_TENSORS),
    "many lists within each other": (files.packed(b"[" * 90_000), NOT_JSON),
    "many objects within each other": (files.packed(b'{"a":' * 90_000), NOT_JSON),
    "a number of a million digits": (files.packed(b'{"a":' + b"9" * 10**6 + b"}"), NOT_JSON),
    "twice the same tensor": (
        files.packed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', bytes(4)),
        "names something twice",
    ),
    "twice the same fact": (
        files.packed(b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        "names something twice",
    ),
    "twice the same metadata": (files.packed(b'{"__metadata__":{"a":"1","a":"2"}}'), "names something twice"),
    # Metadata and names
    "no tensor": (files.packed({}), "There is nothing in the file"),
    "metadata alone": (files.packed({"__metadata__": {"a": "b"}}), "There is nothing in the file"),
    "metadata of numbers": (files.packed({"__metadata__": {"a": 1}, **ONE}, bytes(4)), "not all text"),
    "metadata of lists": (files.packed({"__metadata__": [1], **ONE}, bytes(4)), "not all text"),
    "metadata null": (files.packed({"__metadata__": None, **ONE}, bytes(4)), "not all text"),
    "a path as name": (named("../../etc/passwd"), r"a name that no model's part has: \.\./\.\./etc/passwd"),
    "NUL in a name": (named("a\0b"), r"a\?b"),
    "an empty name": (named(""), "a name that no model's part has"),
    "a long name": (named("a" * 257), "a name that no model's part has"),
    "markup as name": (named("<script>alert(1)</script>"), "a name that no model's part has"),
    "a lone surrogate as name": (files.packed(b'{"\\ud800": {}}'), r"a name that no model's part has: \?"),
    "newline at the end of a name": (named("a\n"), "a name that no model's part has"),
    # Types, shapes, places
    "an entry that is a list": (files.packed({"a": [1]}), f"{DAMAGED}: a lacks"),
    **{f"no {key}": (without(key), f"{DAMAGED}: a lacks") for key in ("dtype", "shape", "data_offsets")},
    "one fact too many": (with_(more=1), f"{DAMAGED}: a lacks"),
    "a type of long ago": (with_(dtype="F31"), "a is of type F31; a LoRA has F64, F32"),
    "whole numbers": (with_(dtype="I32"), "a is of type I32"),
    "booleans": (with_(dtype="BOOL", shape=[4]), "a is of type BOOL"),
    "a type that is a list": (with_(dtype=["F32"]), r"a is of type \['F32'\]"),
    "a negative side": (with_(shape=[-1]), "no whole numbers"),
    "a fraction": (with_(shape=[1.5]), "no whole numbers"),
    "true as a side": (with_(shape=[True]), "no whole numbers"),
    "a shape that is text": (with_(shape="11"), "no whole numbers"),
    "a shape that is a number": (with_(shape=1), "no whole numbers"),
    "a huge side": (with_(shape=[2**64]), "no whole numbers"),
    "sides whose product is huge": (with_(shape=[2**62] * 4), "not the size that its shape needs"),
    "an empty tensor": (with_(shape=[0], data_offsets=[0, 0]), "a is empty"),
    "an empty tensor with a huge side": (with_(shape=[0, 2**40], data_offsets=[0, 0]), "a is empty"),
    "5 dimensions": (with_(shape=[1] * 5), "a has 5 dimensions; at most 4"),
    "100,000 dimensions": (with_(shape=[1] * 100_000), "a has 100,000 dimensions"),
    "one place": (with_(data_offsets=[0]), "no whole numbers"),
    "three places": (with_(data_offsets=[0, 4, 8]), "no whole numbers"),
    "a negative place": (with_(data_offsets=[-4, 0]), "no whole numbers"),
    "its end before its beginning": (with_(data_offsets=[4, 0]), "not the size"),
    "too small for its shape": (with_(shape=[2]), "not the size"),
    "too large for its shape": (with_(dtype="F16"), "not the size"),
    "a place past the end": (with_(data_offsets=[4, 8]), "leave a gap"),
    "a huge place": (with_(data_offsets=[2**62, 2**62 + 4]), "leave a gap"),
    "tensors on each other": (two([0, 4], [2, 6], 6), "its tensors overlap before b"),
    "tensors in the same place": (two([0, 4], [0, 4], 4), "its tensors overlap before b"),
    "a gap": (two([0, 4], [6, 10], 10), "its tensors leave a gap before b"),
    "a missing end": (files.safetensors(GOOD)[:-3], r"The end of the file is missing: 3 bytes"),
    "no data at all": (files.packed(files.header(GOOD)), r"The end of the file is missing: 32 bytes"),
    "bytes left over": (
        files.safetensors(GOOD) + b"#!/bin/sh",
        "9 bytes at the end of the file belong to no tensor",
    ),
    "a ZIP left over": (files.safetensors(GOOD) + zipped(), "at the end of the file belong to no tensor"),
    # Much of something
    "20,001 tensors": (
        files.safetensors({f"{n}": ("F8_E4M3", (1,)) for n in range(20_001)}),
        "names 20,001 tensors; at most 20,000 are read",
    ),
    "700,000 empty objects": (
        files.packed(b"{" + b",".join(b'"%d":{}' % n for n in range(700_000)) + b"}"),
        "too many parts",
    ),
    "2 million lists": (files.packed(b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"), "too many parts"),
    "4 million sides": (with_(shape=[1] * 2_500_000), "dimensions; at most 4 make sense"),
    "2 million fractions": (
        files.packed(b'{"a":{"shape":[' + b"1.5," * 2_000_000 + b"1]}}"),
        f"{DAMAGED}: a lacks",
    ),
    "230,000 metadata": (
        files.packed(b'{"__metadata__":{' + b",".join(b'"%x":"%d"' % (n, n) for n in range(230_000)) + b"}}"),
        "There is nothing in the file",
    ),
    "8 MiB of metadata": (files.packed({"__metadata__": {"a": "x" * (8 * MEBI - 60)}}), "There is nothing"),
    "8 MiB of wide metadata": (
        files.packed(b'{"__metadata__":{"a":"%s\xf0\x9f\x98\x80"}}' % (b"x" * (8 * MEBI - 60))),
        "There is nothing",
    ),
    "8 MiB of escapes": (
        files.packed(b'{"__metadata__":{"a":"%s"}}' % (b"\\u4e00" * 1_390_000)),
        "There is nothing",
    ),
}


def resident(what: str) -> int:
    """Bytes of memory of this process: VmRSS, or VmHWM, the most there were."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_the_reason_soon_and_in_little_memory(content: bytes, reason: str) -> None:
    file = io.BytesIO(content)
    Path("/proc/self/clear_refs").write_text("5")  # forget the most there was
    before, start = resident("VmRSS"), time.process_time()
    with pytest.raises(Refused, match=reason) as refused:
        header.read(file, len(content))
    # Files that are read to their end take minutes; these take a second at most on a busy machine.
    assert time.process_time() - start < 10
    assert resident("VmHWM") - before < 100e6
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("length", [*range(56, 66), *range(124, 134)])
def test_a_length_that_looks_like_another_format_is_no_reason(length: int) -> None:
    """The first byte is "<" for a header of 60 bytes, and that of a pickle for 128."""
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    assert header.read(io.BytesIO(files.packed(text, bytes(4))), 12 + length).data == 8 + length


def test_what_the_header_says() -> None:
    content = files.safetensors(GOOD | {"a.alpha": ("I64", ())}, {"modelspec.title": "Fog"})
    read = header.read(io.BytesIO(content), len(content))
    assert read.metadata == {"modelspec.title": "Fog"}
    assert list(read.tensors) == ["a.lora_A.weight", "a.lora_B.weight", "a.alpha"]
    assert read.tensors["a.lora_B.weight"] == header.Tensor("F16", (4, 2), 16, 32)
    assert len(content) == read.data + 40
