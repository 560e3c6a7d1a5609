"""The reference decoder as Hugging Face's Llama: names and config. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

JSON = Any
_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.wq.weight": "self_attn.q_proj.weight",
    "attention.wk.weight": "self_attn.k_proj.weight",
    "attention.wv.weight": "self_attn.v_proj.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
}
_TOP = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_BACK = {theirs: ours for ours, theirs in _LAYER.items()}
_TOP_BACK = {theirs: ours for ours, theirs in _TOP.items()}
_OURS = re.compile(r"layers\.(\d+)\.(.+)")
_THEIRS = re.compile(r"model\.layers\.(\d+)\.(.+)")


def to_hf(name: str) -> str | None:
    """A parameter's name there, or None for one that Llama lacks.

    Queries and keys need no change: both rotate pairs that lie half a head apart.
    """
    found = _OURS.fullmatch(name)
    if found is None:
        return _TOP.get(name)
    theirs = _LAYER.get(found[2])
    return None if theirs is None else f"model.layers.{found[1]}.{theirs}"


def from_hf(name: str) -> str | None:
    """A parameter's name here, or None for one that the reference decoder lacks."""
    found = _THEIRS.fullmatch(name)
    if found is None:
        return _TOP_BACK.get(name)
    ours = _LAYER_BACK.get(found[2])
    return None if ours is None else f"layers.{found[1]}.{ours}"


def is_hf_llama(names: Iterable[str]) -> bool:
    """Whether these are the names of Hugging Face's Llama."""
    known = [from_hf(name) is not None for name in names]
    return bool(known) and all(known)


def config(sizes: Mapping[str, JSON], seq_len: int, dtype: str) -> dict[str, JSON]:
    """`config.json` of the model. `sizes` has the keys of the job's model sizes."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": sizes["dim"],
        "intermediate_size": sizes["ffn_dim"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "num_key_value_heads": sizes["kv_heads"],
        "head_dim": sizes["dim"] // sizes["heads"],
        "vocab_size": sizes["vocab"],
        "max_position_embeddings": seq_len,
        "rms_norm_eps": sizes["norm_eps"],
        "rope_theta": sizes["rope_theta"],
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes["rope_theta"]},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": sizes["tied"],
        "torch_dtype": dtype,
        "dtype": dtype,
        "bos_token_id": None,
        "eos_token_id": None,
    }
