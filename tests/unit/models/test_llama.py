"""The reference decoder: its shape, its stages, and what attention may see."""

from __future__ import annotations

import pytest
import torch

from trainer.job import from_mapping
from trainer.models import Stage, build_spec, initial_value
from trainer.models.llama import Decoder, rope_table, rotate

CPU = torch.device("cpu")


def job_of(**model):
    return from_mapping({"model": {"preset": "debug", **model}, "data": {"seq_len": 32}})


def stage_of(spec, index=0, count=1, seed=0):
    with torch.device("meta"):
        module = spec.build(Stage(index=index, count=count))
    module.to_empty(device=CPU)
    spec.after_materialize(module, CPU)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(initial_value(spec.init_rule(name), name, parameter.shape, seed))
    return module


def tokens_of(samples=3):
    return torch.randint(0, 256, (samples, 32), generator=torch.Generator().manual_seed(1))


def test_names_are_those_that_tools_rely_on():
    with torch.device("meta"):
        names = dict(build_spec(job_of()).build(Stage(index=0, count=1)).named_parameters())
    assert set(names) >= {
        "tok_embeddings.weight",
        "layers.0.attention.wq.weight",
        "layers.3.attention.wo.weight",
        "layers.0.attention_norm.weight",
        "layers.0.ffn_norm.weight",
        "layers.0.feed_forward.w1.weight",
        "norm.weight",
        "output.weight",
    }


@pytest.mark.parametrize("preset", ["debug", "small", "1b", "8b", "405b"])
def test_the_module_has_as_many_parameters_as_the_plan_counts(preset):
    job = from_mapping({"model": {"preset": preset}})
    with torch.device("meta"):
        module = build_spec(job).build(Stage(index=0, count=1))
    assert sum(p.numel() for p in module.parameters()) == job.model.sizes().parameters


def test_the_first_loss_is_that_of_a_guess():
    spec = build_spec(job_of())
    tokens = tokens_of()
    loss = spec.loss(stage_of(spec)(tokens), tokens) / tokens.numel()
    assert 5.4 < loss.item() < 5.8


def test_a_token_sees_nothing_behind_itself():
    spec = build_spec(job_of())
    model, tokens = stage_of(spec).eval(), tokens_of()
    changed = tokens.clone()
    changed[:, 20:] = 7
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_stages_one_after_the_other_are_the_whole_model_to_the_bit(count, dropout):
    spec = build_spec(job_of(dropout=dropout))
    tokens, keys = tokens_of(), torch.tensor([5, 6, 7])
    expected = stage_of(spec)(tokens, keys)
    value = tokens
    for index in range(count):
        value = stage_of(spec, index, count)(value, keys)
    assert torch.equal(value, expected)


def test_stages_hold_each_parameter_once_and_under_its_whole_model_name():
    spec = build_spec(job_of())
    whole = {name for name, _ in stage_of(spec).named_parameters()}
    parts = [name for i in range(4) for name, _ in stage_of(spec, i, 4).named_parameters()]
    assert sorted(parts) == sorted(whole)


def test_a_sample_s_result_does_not_depend_on_its_neighbours_in_the_batch():
    spec = build_spec(job_of(dropout=0.2))
    model, tokens, keys = stage_of(spec), tokens_of(), torch.tensor([5, 6, 7])
    together = model(tokens, keys)
    alone = torch.cat([model(tokens[i : i + 1], keys[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_a_tied_head_is_the_embedding():
    spec = build_spec(job_of(tied=True))
    model = stage_of(spec)
    assert "output.weight" not in dict(model.named_parameters())
    spec.loss(model(tokens_of()), tokens_of()).backward()
    assert model.tok_embeddings.weight.grad is not None
    assert spec.stages == 1
    assert spec.tensor_plan is None
    with pytest.raises(ValueError, match="can't lie on another stage"):
        Decoder(job_of(tied=True).model.sizes(), 8, first=True, last=False)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    table = rope_table(16, 8, 10000.0, CPU)
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    turned = [rotate(v.expand(1, 16, 1, 8), table.double())[0, :, 0] for v in (query, key)]
    scores = turned[0].float() @ turned[1].float().T
    torch.testing.assert_close(scores.diagonal(), scores[0, 0].expand(16), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores.diagonal(3), scores[0, 3].expand(13), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        turned[0].norm(dim=-1), query.norm().float().expand(16).double(), atol=1e-5, rtol=1e-4
    )


def test_tables_are_no_part_of_the_state():
    assert not [name for name in stage_of(build_spec(job_of())).state_dict() if "rope" in name]


def test_blocks_compile_whole_and_one_graph_serves_them_all():
    spec = build_spec(job_of(dropout=0.1))
    model, tokens, keys = stage_of(spec), tokens_of(), torch.tensor([5, 6, 7])
    expected = model(tokens, keys)
    torch.compiler.reset()
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    for block in spec.blocks(model):
        block.compile(backend=backend, fullgraph=True, dynamic=False)
    torch.testing.assert_close(model(tokens, keys), expected)
    torch.compiler.reset()
    assert len(graphs) == 1


def test_targets_of_minus_100_count_nothing():
    spec = build_spec(job_of())
    logits, targets = torch.randn(2, 32, 256), tokens_of(2)
    some = targets.clone()
    some[:, 16:] = -100
    kept = spec.loss(logits[:, :16], targets[:, :16])
    torch.testing.assert_close(spec.loss(logits, some), kept)
