"""What a mesh plan does to a model, composed of torch's own parts."""

from __future__ import annotations

from trainer.parallel.apply import Parallelized, Shapes, parallelize

__all__ = ["Parallelized", "Shapes", "parallelize"]
