"""How large what comes from a wire, or is read from the store, may be."""

from __future__ import annotations

MAX_SLOTS = 1024
"""Ranks of one node."""
MAX_NODES = 65_536
"""Of one job."""
MAX_COUNT = (1 << 31) - 1
"""Of restarts and the like: what the wire's smaller whole numbers hold."""
MAX_NUMBER = 1 << 62
"""Of generations, versions, incarnations and reports: some more still fit into 64 bits."""
MAX_CLAIM = 1 << 53
"""The largest generation that is believed to have been before: so many and some more can be
numbered on, and what comes after is never beyond what the members may say of it."""
MAX_SECONDS = 366 * 86_400.0
MAX_TEXT = 1024
"""Characters of a reason, a cause or an error."""
MAX_LABELS = 32
MAX_LABEL = 128
"""Characters of a label's key or value."""
