"""The reference decoder: RMSNorm, rotary positions, grouped queries, SwiGLU, causal attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.job import Sizes
from trainer.models.dropout import KeyedDropout, column_codes, row_codes
from trainer.models.init import InitRule

DEVIATION = 0.02


def rope_table(length: int, head_dim: int, theta: float, device: torch.device) -> Tensor:
    """Cosines and signed sines of each position and channel: [2, length, head_dim] float32.

    The two channels of a pair lie half a head apart; the sine of the first is negative.
    """
    channel = torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu")
    position = torch.arange(length, dtype=torch.float64, device="cpu")
    angle = torch.outer(position, theta ** (-channel / head_dim))
    cosine, sine = angle.cos(), angle.sin()
    table = torch.stack((torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)))
    return table.to(dtype=torch.float32, device=device)


def rotate(values: Tensor, table: Tensor) -> Tensor:
    """Turn [batch, sequence, heads, head_dim] by position."""
    cosine, sine = table[:, : values.shape[1], None]
    wide = values.float()
    swapped = wide.roll(values.shape[-1] // 2, dims=-1)
    turned: Tensor = wide * cosine + swapped * sine
    return turned.type_as(values)


class Attention(nn.Module):
    """Causal attention in which several query heads share a key and value head."""

    rope: Tensor

    def __init__(self, sizes: Sizes, seq_len: int) -> None:
        super().__init__()
        self.head_dim = sizes.head_dim
        self.repeats = sizes.heads // sizes.kv_heads
        keys = sizes.kv_heads * sizes.head_dim
        self.wq = nn.Linear(sizes.dim, sizes.dim, bias=False)
        self.wk = nn.Linear(sizes.dim, keys, bias=False)
        self.wv = nn.Linear(sizes.dim, keys, bias=False)
        self.wo = nn.Linear(sizes.dim, sizes.dim, bias=False)
        table = torch.empty(2, seq_len, sizes.head_dim, dtype=torch.float32)
        self.register_buffer("rope", table, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, sequence, dim] to the same; under tensor parallelism, with a share of heads."""
        batch, length, _ = hidden.shape
        query = rotate(self.wq(hidden).view(batch, length, -1, self.head_dim), self.rope)
        key = rotate(self.wk(hidden).view(batch, length, -1, self.head_dim), self.rope)
        value = self.wv(hidden).view(batch, length, -1, self.head_dim)
        grouped = self.repeats > 1
        if grouped and query.device.type != "cpu" and query.dtype == torch.float32:
            # The fused kernel for float32 on accelerators knows no groups.
            key = key.repeat_interleave(self.repeats, dim=2)
            value = value.repeat_interleave(self.repeats, dim=2)
            grouped = False
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            is_causal=True,
            enable_gqa=grouped,
        )
        out: Tensor = self.wo(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, inner, bias=False)
        self.w2 = nn.Linear(inner, dim, bias=False)
        self.w3 = nn.Linear(dim, inner, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(hidden)) * self.w3(hidden))
        return out


class Block(nn.Module):
    """Attention, then feed-forward, each behind a norm and beside a residual path."""

    def __init__(self, sizes: Sizes, seq_len: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(sizes.dim, eps=sizes.norm_eps)
        self.attention = Attention(sizes, seq_len)
        self.attention_dropout = KeyedDropout(sizes.dropout, sizes.dim)
        self.ffn_norm = nn.RMSNorm(sizes.dim, eps=sizes.norm_eps)
        self.feed_forward = FeedForward(sizes.dim, sizes.ffn_dim)
        self.ffn_dropout = KeyedDropout(sizes.dropout, sizes.dim)

    def forward(self, hidden: Tensor, rows: Tensor | None) -> Tensor:
        """`rows`: this layer's part of `row_codes`, or None without dropout."""
        first, second = (None, None) if rows is None else rows.unbind()
        attended: Tensor = self.attention(self.attention_norm(hidden))
        hidden = hidden + self.attention_dropout(attended, first)
        fed: Tensor = self.feed_forward(self.ffn_norm(hidden))
        dropped: Tensor = self.ffn_dropout(fed, second)
        return hidden + dropped


class Decoder(nn.Module):
    """The whole model, or the run of layers that one pipeline stage holds.

    The first stage has `tok_embeddings`, the last one `norm` and `output`; elsewhere they are
    None. Layers keep the index they have in the whole model, so names never change.
    `sequence_offset` is set on ranks whose blocks see a later part of the sequence.
    """

    def __init__(
        self,
        sizes: Sizes,
        seq_len: int,
        *,
        layers: range | None = None,
        seed: int = 0,
        first: bool = True,
        last: bool = True,
    ) -> None:
        super().__init__()
        if sizes.tied and not (first and last):
            raise ValueError("a head tied to the embedding can't lie on another stage")
        self.sizes = sizes
        self.seq_len = seq_len
        self.seed = seed
        self.sequence_offset = 0
        self.tok_embeddings = nn.Embedding(sizes.vocab, sizes.dim) if first else None
        indices = range(sizes.layers) if layers is None else layers
        self.layers = nn.ModuleDict({str(index): Block(sizes, seq_len) for index in indices})
        self.norm = nn.RMSNorm(sizes.dim, eps=sizes.norm_eps) if last else None
        has_head = last and not sizes.tied
        self.output = nn.Linear(sizes.dim, sizes.vocab, bias=False) if has_head else None

    def forward(self, values: Tensor, keys: Tensor | None = None) -> Tensor:
        """One stage's part.

        values: tokens [batch, sequence] int64 on the first stage, else hidden
        [batch, sequence, dim]. keys: the samples' [batch] int64, needed while training with
        dropout. Returns hidden, or logits [batch, sequence, vocab] on the last stage.
        """
        hidden = values if self.tok_embeddings is None else self.tok_embeddings(values)
        codes = self._row_codes(keys, hidden.shape[1])
        for index, block in enumerate(self.layers.values()):
            hidden = block(hidden, None if codes is None else codes[index])
        if self.norm is None:
            return hidden
        hidden = self.norm(hidden)
        if self.output is not None:
            logits: Tensor = self.output(hidden)
            return logits
        assert self.tok_embeddings is not None
        return F.linear(hidden, self.tok_embeddings.weight)

    def _row_codes(self, keys: Tensor | None, length: int) -> Tensor | None:
        if keys is None or not self.training or self.sizes.dropout == 0.0:
            return None
        layers = [int(index) for index in self.layers]
        return row_codes(self.seed, keys, layers, offset=self.sequence_offset, length=length)

    def reset_buffers(self, device: torch.device) -> None:
        """Fill what is computed and never saved; all layers share it."""
        table = rope_table(self.seq_len, self.sizes.head_dim, self.sizes.rope_theta, device)
        columns = column_codes(self.sizes.dim, device)
        for module in self.modules():
            if isinstance(module, Attention):
                module.rope = table
            elif isinstance(module, KeyedDropout):
                module.columns = columns


def decoder_init_rule(name: str, layers: int) -> InitRule:
    """Norms begin at 1; matrices that write to the residual path shrink with the depth."""
    if name.endswith("norm.weight"):
        return InitRule("constant", 1.0)
    if name.endswith(("attention.wo.weight", "feed_forward.w2.weight")):
        return InitRule("normal", DEVIATION / math.sqrt(2 * layers))
    return InitRule("normal", DEVIATION)


def flops_per_token(sizes: Sizes, seq_len: int) -> float:
    """Of a forward and a backward pass: six per weight, and attention's two products."""
    weights = sizes.layers * sizes.layer_parameters + sizes.embedding_parameters
    return 6.0 * weights + 6.0 * sizes.layers * sizes.dim * seq_len
