"""Rendering, checking and waiting never load torch."""

from __future__ import annotations

import subprocess
import sys


def test_no_torch():
    code = (
        "import sys, trainer.deploy.cli, trainer.deploy.coordinator\n"
        "sys.exit('torch' in sys.modules or 'kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
