"""Every collective in trainer/ is known, with what makes its result count.

NCCL does not say that a collective was cut, so a result that the host reads from one is believed in
trainer/checkpoint/exchange.py alone. A new call, anywhere else, has to be listed here with the
exchange that follows it before anything that it left is used for good.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3] / "trainer"

CALLS = {
    *("all_gather", "all_gather_into_tensor", "all_gather_object", "all_gather_single"),
    *("all_reduce", "all_to_all", "all_to_all_single", "barrier", "batch_isend_irecv"),
    *("broadcast", "broadcast_object_list", "gather", "gather_object", "irecv", "isend"),
    *("monitored_barrier", "recv", "reduce", "reduce_scatter", "reduce_scatter_single"),
    *("reduce_scatter_tensor", "scatter", "scatter_object_list", "send"),
}
"""What of torch.distributed moves data between ranks."""
ON_TENSORS = {"full_tensor", "redistribute"}
"""What of a DTensor does."""
IMPLICIT = {
    "distribute_tensor",
    "distribute_module",
    "clip_grad_norm_",
    "broadcast_object",
    "get_model_state_dict",
    "get_state_dict",
    "set_state_dict",
}
"""Functions of torch that communicate without saying so."""

KNOWN = {
    "checkpoint/exchange.py": "the one place where a result is believed",
    "checkpoint/movement.py": "its callers (restore.py, loading.py) exchange something afterwards",
    "exact/fold.py": "gradients: the step's ballot",
    "models/tensor_plan.py": "weights that have no values yet, and activations: the step's ballot",
    "worker/buffer_sharing.py": "buffers of a step that is under way: its ballot",
    "worker/digest.py": "confirms afterwards",
}


def collectives(source: str) -> Iterator[str]:
    """The collectives that a module calls, hands on or imports."""
    tree = ast.parse(source)
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if alias.name.endswith(("torch.distributed", "distributed_c10d", "_functional_collectives"))
        or (isinstance(node, ast.ImportFrom) and alias.name == "distributed")
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value, name) if name in ON_TENSORS | IMPLICIT:
                yield name
            case ast.Attribute(value, name) if name in CALLS and ast.unparse(value) in modules:
                yield name
            case ast.Name(name) if name in IMPLICIT:
                yield name
            case ast.ImportFrom(module, names) if (module or "").startswith("torch.distributed"):
                yield from (alias.name for alias in names if alias.name in CALLS)
            case _:
                pass


def test_no_collective_is_made_where_nobody_knows_of_it() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        for name in collectives(path.read_text()):
            found[str(path.relative_to(ROOT))].add(name)
    unknown = {path: sorted(names) for path, names in found.items() if path not in KNOWN}
    assert not unknown, "let trainer/checkpoint/exchange.py read what these leave, or list them"
    assert not KNOWN.keys() - found.keys(), "these make no collectives any more"


def test_the_search_finds_them_however_they_are_called() -> None:
    found = [
        *collectives("import torch.distributed as dist\ndist.all_reduce(x)"),
        *collectives("from torch import distributed\nhand_on(distributed.gather)"),
        *collectives("import torch.distributed\ntorch.distributed.broadcast(x, 0)"),
        *collectives("from torch.distributed import send as give"),
        *collectives("whole = weight.full_tensor()"),
        *collectives("norm = clip_grad_norm_(parameters, 1.0)"),
    ]
    assert found == ["all_reduce", "gather", "broadcast", "send", "full_tensor", "clip_grad_norm_"]
    assert not [*collectives("exchange.gather(1); queue.send(x); functools.reduce(f, xs)")]
