"""What may become a path: what its writer makes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import rendezvous.outside
import trainer.outside
from trainer import names
from trainer.names import ATTEMPT, DATA_PATH, DCP_FILE, MIRROR, NODE, READER, RECEIPT, RECORD
from trainer.outside.echo import MOST, shown
from trainer.outside.names import Form, named

from trainer.names import RUN_ID, SAFETENSORS_FILE, attempt_name  # isort: skip

A = "v00000100-g00001-5f3a90c1"
FORMS = [form for form in vars(names).values() if isinstance(form, Form)]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (RUN_ID, "demo-20260101-120000"),
        (RUN_ID, "7"),
        (RUN_ID, "a" * 128),
        (NODE, "host-1.example.org"),
        (NODE, "2001:db8::1"),
        (ATTEMPT, A),
        (ATTEMPT, attempt_name(1 << 60, 123_456, "00000000")),
        (DATA_PATH, f"data/{A}/00000.safetensors"),
        (DATA_PATH, f"data/{A}/123456.host:1.safetensors"),
        (RECORD, "00000001.json"),
        (RECEIPT, "00001.receipt.json"),
        (READER, f"{A}.0123abcd"),
        (MIRROR, "a-own-0"),
        (SAFETENSORS_FILE, "model-00001-of-00002.safetensors"),
        (DCP_FILE, "__0_0.distcp"),
    ],
)
def test_what_writers_make_is_taken(form: Form, text: str) -> None:
    assert named(form, text) == text


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.what)
@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "/", "../x", "x/../y", "/etc/passwd", "~", "a/b", "a\\b", " ", "-x", ".x",
        "x\0", "x\n", "ünder", "٣", "x" * 1000, 7, None, True, [], {"a": 1}, b"x", ["x"],
        f"data/{A}/../00000.safetensors", f"data/{A}/00000.../x.safetensors", f"../{A}",
        f"{A}/", f"{A}\n", f"{A}/..", "../__0_0.distcp", "a/model.safetensors", "..safetensors",
        ".hidden.safetensors", "x-own-0/..", "x-own-0\n", "../x-own-0",
    ],
)  # fmt: skip
def test_what_could_lead_elsewhere_never_is(form: Form, text: object) -> None:
    with pytest.raises(ValueError, match=form.what):
        named(form, text)


def test_every_name_fits_into_a_file_system_with_what_is_put_around_it() -> None:
    node = "n" * 200
    for part in (f".{node}.json.1234567", f"00000.{named(NODE, node)}.safetensors",
                 f"from-{named(MIRROR, node + '-own-12345')}", "r" * 128):  # fmt: skip
        assert len(part) <= 255


@pytest.mark.parametrize(("version", "generation"), [(-1, 0), (1, -1), (10**20, 0)])
def test_a_version_without_an_attempt_is_refused(version: int, generation: int) -> None:
    with pytest.raises(ValueError, match=f"version {version}"):
        attempt_name(version, generation, "00000000")


def test_little_of_a_value_is_shown() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    for value in ("x" * 10**7, 10**5000, [10**9] * 10**6, {"k" * 10**6: 1}, deep, b"\0" * 10**6):
        assert len(shown(value)) <= MOST
    assert shown("../../home") == "'../../home'"
    assert shown(10**30) == str(10**30)


def test_both_packages_have_the_same_files() -> None:
    for module in Path(rendezvous.outside.__file__).parent.glob("[!_]*.py"):
        link = Path(trainer.outside.__file__).parent / module.name
        assert link.read_bytes() == module.read_bytes()
