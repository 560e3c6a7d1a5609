"""`python -m remesh` is `remesh`."""

from __future__ import annotations

import sys

from remesh.start import command

sys.exit(command())
