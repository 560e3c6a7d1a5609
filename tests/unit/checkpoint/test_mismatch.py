"""Why a checkpoint does not fit a model with buffers, in words."""

from __future__ import annotations

import pytest

from trainer.checkpoint.manifest import Manifest, TensorRecord
from trainer.checkpoint.mismatch import is_moment_of, kind_fault

F32 = "float32"
WANTED = {
    "model/w": (F32, (2,)),
    "model/mean": (F32, (3,)),
    "model/seen": ("int64", ()),
    "optim/w/exp_avg": (F32, (2,)),
}
BUFFERS = {"model/mean", "model/seen"}


def holding(*names: str) -> Manifest:
    return Manifest(
        version=3,
        generation=1,
        attempt="v3",
        identity={},
        values={},
        tensors={name: TensorRecord(*WANTED[name], ()) for name in names},
        files=(),
        block=1 << 22,
    )


def test_one_without_any_buffer_is_told_by_their_names_and_what_to_do() -> None:
    fault = kind_fault(holding("model/w", "optim/w/exp_avg"), WANTED, BUFFERS)
    assert fault is not None
    assert fault.startswith("it was written without the model's buffers: model/mean; model/seen.")
    assert "persistent=False" in fault


@pytest.mark.parametrize("there", [("model/w",), ("model/w", "model/seen", "optim/w/exp_avg")])
def test_one_that_lacks_something_else_holds_another_model(there: tuple[str, ...]) -> None:
    fault = kind_fault(holding(*there), WANTED, BUFFERS)
    assert fault is not None
    assert "another model: model/mean is not in it" in fault


def test_one_that_has_all_fits() -> None:
    assert kind_fault(holding(*WANTED), WANTED, BUFFERS) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("optim/mean/exp_avg", True),
        ("optim/mean/exp_avg_sq", True),
        ("optim/w/exp_avg", False),
        ("model/mean", False),
        ("optim/mean", False),
        ("other/mean/exp_avg", False),
    ],
)
def test_moments_of_buffers_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_moment_of(name, BUFFERS) is expected
