"""The name under which Remesh's processes start; what they run is in `trainer` and `rendezvous`.

`remesh.__version__` is all that there is to use of it in a program.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, from where it is told: a user's own `trainer` may have come to that name."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import runpy
    from pathlib import Path

    told = runpy.run_path(str(Path(__file__).resolve().parents[1] / "trainer" / "version.py"))
    return str(told["VERSION"])
