"""The wheel and the source distribution hold what they need, far from this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path

import pytest

import trainer

ROOT = Path(__file__).parents[3]
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
KEPT_OUT = (".*", "*.egg-info", "build", "runs", "__pycache__")


def build(tree: Path, kind: str, into: Path) -> Path:
    """What `python -m build --no-isolation` would make of a tree."""
    into.mkdir()
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(into)]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    (found,) = into.iterdir()
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked; made from a copy, since building leaves files about."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*KEPT_OUT))
    with tarfile.open(build(folder / "tree", "sdist", folder / "made")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (found,) = (folder / "unpacked").iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(sdist, "wheel", tmp_path_factory.mktemp("wheel") / "made")


def test_a_source_distribution_can_be_read_tested_and_deployed(sdist: Path) -> None:
    for folder in ("configs", "deploy", "docs", "examples", "protos", "tests"):
        wanted = {
            path.relative_to(ROOT)
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert wanted
        assert not [path for path in wanted if not (sdist / path).is_file()]
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "LICENSE", "README.md"):
        assert (sdist / name).is_file()


def test_a_wheel_tells_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        told = Parser().parsestr(archive.read(metadata).decode())
        shared = {name.partition("/share/remesh/")[2] for name in archive.namelist()}
    assert told["Name"] == "remesh"
    assert told["Version"] == trainer.__version__
    assert told["License-Expression"] == "Apache-2.0"
    classifiers = told.get_all("Classifier") or []
    assert "Topic :: Scientific/Engineering :: Artificial Intelligence" in classifiers
    assert {"configs/quickstart.yaml", "deploy/control-plane/base/etcd.yaml"} <= shared


def test_an_installed_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    """Without this checkout: its packages, their version, and what they find beside them."""
    site, prefix = tmp_path / "site", tmp_path / "site" / "share" / "remesh"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, timeout=240)

    def remesh(*words: str) -> str:
        return run([sys.executable, "-P", "-m", "remesh", *words])

    def run(command: Sequence[str]) -> str:
        env = os.environ | {"PYTHONPATH": str(site)}
        ended = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    where = "import remesh, rendezvous, trainer; print(trainer.__file__, remesh.__version__)"
    home, version = run([sys.executable, "-P", "-c", where]).split()
    assert home.startswith(str(site))
    assert version == trainer.__version__
    assert remesh("--version") == f"remesh {version}\n"
    assert "mesh" in remesh("plan", str(prefix / "configs" / "quickstart.yaml"))
    assert "kind: " in remesh("render", str(prefix / "configs" / "cluster.yaml"))
    assert "_remesh" in remesh("completion", "bash")
