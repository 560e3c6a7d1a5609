"""The reference decoder goes to Hugging Face's Llama and back, and computes the same there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.integration.checkpoint.test_command import remesh
from trainer.checkpoint import Checkpointer
from trainer.job import load as load_job
from trainer.models.llama import Decoder

JOB = """\
name: tiny
model: {preset: debug, dim: 32, layers: 2, heads: 4, kv_heads: 2, ffn_dim: 48, vocab: 259, tied: %s}
data: {seq_len: 16}
"""


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_loads_the_reference_model_and_gives_the_same_logits(
    tmp_path: Path, tied: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "job.yaml").write_text(JOB % str(tied).lower())
    sizes = load_job(tmp_path / "job.yaml").model.sizes()
    torch.manual_seed(0)
    model = Decoder(sizes, seq_len=16)
    model.reset_buffers(torch.device("cpu"))
    state = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    moments = {f"optim/{name}/exp_avg": torch.zeros(2) for name in ("a", "b")}
    checkpointer = Checkpointer(
        tmp_path / "checkpoints", identity={}, rank=0, world_size=1, generation=1
    )
    checkpointer.save(5, state | moments, {})

    assert remesh("export", tmp_path, tmp_path / "hf", "--format", "hf") == 0
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokens = torch.randint(0, sizes.vocab, (2, 16))
    with torch.no_grad():
        expected, found = model.eval()(tokens), theirs.eval()(tokens).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    theirs.save_pretrained(tmp_path / "again")
    assert remesh("import", tmp_path / "again", tmp_path / "imported") == 0
    back = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    reader = Checkpointer(
        tmp_path / "imported", identity=None, rank=0, world_size=1, generation=1, read_only=True
    )
    assert reader.load(back) is not None
    assert all(torch.equal(back[name], state[name]) for name in state)
