"""`python -m rendezvous serve …`: the rendezvous without training."""

from __future__ import annotations

import sys

from rendezvous.service.cli import main

if __name__ == "__main__":
    sys.exit(main())
