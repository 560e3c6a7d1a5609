"""`python -m trainer.command` is `remesh`."""

from __future__ import annotations

import sys

from trainer.command import main

sys.exit(main())
