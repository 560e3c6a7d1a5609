"""Jobs and scripts beside files of the user's that have the names of modules of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.launcher.launching import ROOT, Launcher
from trainer.command import slots
from trainer.telemetry.files import read_json

REMESH_ANYWHERE = [
    sys.executable,
    *("-P", "-c", "import sys; from remesh.start import command; sys.exit(command())"),
]
"""The console script's own words; our folder may come last on PYTHONPATH, or not at all."""
MINE = "WHOSE = 'the user'\n"
FATAL = "raise SystemExit('a file of the user\\'s was imported')\n"
FACTORY = """
import sys
import rendezvous, settings
from torch import nn
assert (rendezvous.WHOSE, settings.WHOSE) == ("the user", "the user"), (rendezvous, settings)
assert sys.path[0] == {folder!r}, sys.path

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(256, 8), nn.Linear(8, 256)

    def forward(self, tokens):
        return self.out(self.embedding(tokens))
"""


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [("command", "files"), ("command", "packages"), ("command", "folders"), ("etcd_v3", "files")],
)
def test_our_packages_are_ours_whatever_pythonpath_holds(
    launcher: Launcher, begin: str, kind: str
) -> None:
    names = ["trainer", "rendezvous"]
    if begin == "command":
        # In torchrun's own process the standard library's names are torch's affair.
        names += ["argparse", "logging"]
    for name in names:
        if kind == "files":
            write(launcher.folder, **{name: FATAL})
        else:
            write(launcher.folder / name, **({"__init__": FATAL} if kind == "packages" else {}))
    program = (
        f"import sys; sys.argv[1:] = ['--help']\n"
        f"try: from remesh.start import {begin}; {begin}()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "finally: print(*(m.__file__ for n, m in sys.modules.items() if n == 'rendezvous'))"
    )
    path = f"{launcher.folder}:{ROOT}"
    ended = launcher([sys.executable, "-P", "-c", program], PYTHONPATH=path)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == str(ROOT / "rendezvous" / "__init__.py")


def test_a_module_is_run_without_the_folder_it_is_run_in(launcher: Launcher) -> None:
    write(launcher.folder, trainer=FATAL, types=FATAL, runpy=FATAL)
    write(launcher.folder / "path", trainer=FATAL, runpy=FATAL)
    start = [sys.executable, "-P", str(ROOT / "remesh" / "start.py")]
    ended = launcher([*start, "trainer.worker"], PYTHONPATH=str(launcher.folder / "path"))
    told = "this is a worker's process; start a job with `remesh run`\n"
    assert (ended.code, ended.err) == (2, told)


def test_torch_is_asked_for_devices_without_the_folder_it_is_asked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "here", types=FATAL)
    abacus = (
        "class abacus:\n"
        "    device_count = staticmethod(lambda: 3)\n"
        "    is_available = staticmethod(lambda: True)\n"
    )
    write(tmp_path / "there", torch=abacus)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "there"))
    monkeypatch.setattr(slots, "_accelerator_possible", lambda: True)
    assert slots.worker_count("abacus") == 3


def test_a_job_trains_the_users_factory_beside_any_names(launcher: Launcher) -> None:
    here, there = launcher.folder, launcher.folder / "there"
    write(here, trainer=FATAL, types=FATAL, logging=FATAL, queue=FATAL, yaml=FATAL)
    write(here, rendezvous=MINE, settings=MINE, mine=FACTORY.format(folder=str(here)))
    write(there, trainer=FATAL, rendezvous=FATAL, settings=FATAL)
    job = {
        "model": {"factory": "mine:Tiny"},
        "data": {"seq_len": 16},
        "train": {"steps": 2, "pieces": 1},
        "elastic": {"nproc_per_node": 1},
        "compile": {"enabled": False},
    }
    (here / "job.yaml").write_text(yaml.safe_dump(job))
    path = f"{there}:{ROOT}"
    ended = launcher([*REMESH_ANYWHERE, "run", "job.yaml"], PYTHONPATH=path)
    assert ended.code == 0, ended.err
    summary = read_json(launcher.run_directory() / "summary.json")
    assert summary is not None
    assert summary["steps"] == 2


def test_a_plain_script_has_its_own_modules(launcher: Launcher) -> None:
    write(launcher.folder / "src", trainer=MINE, rendezvous=MINE)
    show = "import trainer, rendezvous\nprint(trainer.WHOSE, rendezvous.WHOSE)\n"
    write(launcher.folder / "src", script=show)
    script = launcher.folder / "src" / "script.py"
    ended = launcher([*REMESH_ANYWHERE, "run", str(script)], PYTHONPATH=str(ROOT))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == "the user the user"


def test_an_elastic_script_keeps_all_names_but_ours(launcher: Launcher) -> None:
    loop = (
        "import torch, trainer, rendezvous, settings\n"
        "def train(run):\n"
        "    model = torch.nn.Linear(2, 1)\n"
        "    run.state(model, torch.optim.SGD(model.parameters(), lr=0.1))\n"
        "    print(settings.WHOSE, rendezvous.WHOSE, flush=True)\n"
        "trainer.elastic(train)\n"
    )
    write(launcher.folder / "src", rendezvous=MINE, settings=MINE, loop=loop)
    write(launcher.folder, trainer=FATAL)
    script = launcher.folder / "src" / "loop.py"
    ended = launcher([*REMESH_ANYWHERE, "run", "--elastic", str(script)], PYTHONPATH=str(ROOT))
    assert ended.code == 0, ended.err
    assert "the user the user" in ended.out


@pytest.mark.parametrize("place", ["beside", "pythonpath", "module"])
def test_an_elastic_script_that_would_get_the_users_trainer_is_refused(
    launcher: Launcher, place: str
) -> None:
    write(launcher.folder / "src", loop="import trainer\ntrainer.elastic(print)\n")
    theirs = launcher.folder / ("src" if place == "beside" else "other")
    write(theirs, trainer=MINE)
    target = [str(launcher.folder / "src" / "loop.py")]
    path = str(ROOT)
    if place == "pythonpath":
        path = f"{theirs}:{ROOT}"
    if place == "module":
        write(launcher.folder, trainer=MINE)
        theirs, target = launcher.folder, ["-m", "src.loop"]
    ended = launcher([*REMESH_ANYWHERE, "run", "--elastic", *target], PYTHONPATH=path)
    assert ended.code == 2, ended.err
    (line,) = ended.err.splitlines()
    assert line.startswith(f"remesh: {theirs / 'trainer.py'} has the name of Remesh's own package")
    assert line.endswith("rename it")
    assert not (launcher.folder / "runs").exists()
