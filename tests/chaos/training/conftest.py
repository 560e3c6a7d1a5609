from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.training.crew import undisturbed
from tests.integration.launcher.launching import Launcher


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the job that nothing happens to."""
    return str(undisturbed(tmp_path_factory.mktemp("undisturbed"))["weights_sha256"])
