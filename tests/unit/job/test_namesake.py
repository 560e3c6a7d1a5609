"""A user's file called `trainer` is named where it and our package can't both be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import JobError
from trainer.job.factory import find_factory
from trainer.namesake import namesake, script_path

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds three others, with a module, a package and a plain folder called `trainer`."""
    for kind in ("files", "packages", "folders"):
        (tmp_path / kind).mkdir()
    (tmp_path / "files" / "trainer.py").touch()
    for kind in ("packages", "folders"):
        (tmp_path / kind / "trainer").mkdir()
    (tmp_path / "packages" / "trainer" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("files", "files/trainer.py"),
        ("packages", "packages/trainer/__init__.py"),
        ("folders", "folders/trainer"),
    ],
)
def test_what_stands_in_the_way_of_our_package_is_named(
    folder: Path, kind: str, found: str
) -> None:
    elsewhere = {"PYTHONPATH": f"{folder}:{folder / kind}"}
    assert namesake(script_path(folder / kind, {}, ())) == folder / found
    assert namesake(script_path(folder, elsewhere, ())) == folder / found
    assert namesake(script_path(folder / kind, {"PYTHONSAFEPATH": "1"}, ())) is None
    assert namesake(script_path(folder, {}, ())) is None
    assert namesake(script_path(ROOT, elsewhere, ())) is None, "ours comes first"


def test_a_plain_folder_is_passed_over_where_our_package_is_on_the_path(folder: Path) -> None:
    assert namesake(script_path(folder / "folders", {}, [str(ROOT)])) is None
    assert namesake(script_path(folder / "files", {}, [str(ROOT)])) == folder / "files/trainer.py"


@pytest.mark.parametrize(
    "address", ["trainer:build", "trainer.nets:build", "trainer.job:build", "mine:build"]
)
def test_a_factory_whose_module_we_hide_is_refused_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    (tmp_path / "trainer.py").write_text("def build(): ...\n")
    (tmp_path / "mine.py").write_text("from trainer import build\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(JobError) as refused:
        find_factory(address, "model.factory")
    assert str(refused.value).startswith("model.factory: ")
    assert f"{tmp_path / 'trainer.py'} has the name of Remesh's own package" in str(refused.value)
    assert str(refused.value).endswith("rename it")


def test_an_attribute_that_only_a_hidden_module_has_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer

    with pytest.raises(AttributeError, match=r"no attribute 'build'$"):
        _ = trainer.build
    (tmp_path / "trainer.py").write_text("def build(): ...\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttributeError, match=r"no attribute 'build'; .*trainer\.py has the name"):
        _ = trainer.build
