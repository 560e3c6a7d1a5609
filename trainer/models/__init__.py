"""The reference models, and the way in for models of the user's own."""

from trainer.models.factory import build_spec, decoder_spec, module_spec
from trainer.models.init import InitRule, initial_value
from trainer.models.spec import ModelSpec, Stage, TensorPlan

__all__ = [
    "InitRule",
    "ModelSpec",
    "Stage",
    "TensorPlan",
    "build_spec",
    "decoder_spec",
    "initial_value",
    "module_spec",
]
