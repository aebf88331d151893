"""Pools a model's features by the attention of learned queries: PatchConvNet's (arXiv 2112.13692)."""

from __future__ import annotations

import torch
from timm.layers import LayerScale, Mlp
from torch import nn
from torch.nn import functional as F

NORM_EPS = 1e-6
INIT_STD = 0.02  # of initial weights, as in DeiT's code


class QueryAttention(nn.Module):
    """Attention of queries (1 or B, Q, D) to tokens (B, N, D), which gives (B, Q, D)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads={num_heads}: want a divisor of the width, {dim}")
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self._heads(self.q(queries)), self._heads(self.k(tokens)), self._heads(self.v(tokens))
        # not len(), which would fix the batch size of an export
        attended = F.scaled_dot_product_attention(q.expand(k.shape[0], -1, -1, -1), k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def shares(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Share of each token in what each query gets: (B, num_heads, Q, N), 0 to 1, with a sum over N of 1."""
        q, k = self._heads(self.q(queries)), self._heads(self.k(tokens))
        return (q @ k.transpose(2, 3) * q.shape[3] ** -0.5).softmax(dim=3)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class AttentionPool(nn.Module):
    """A transformer block for learned queries alone: pools tokens (B, N, D) to one vector a query (B, Q, D).

    A single query attends to itself besides the tokens, as the class token of CaiT. Where there is one a class, they attend to
    the tokens only. There is no stochastic depth, as in DeiT's code.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, init_values: float, *, sees_query: bool) -> None:
        super().__init__()
        self.sees_query = sees_query
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = QueryAttention(dim, num_heads)
        self.ls1 = LayerScale(dim, init_values)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim, init_values)

    def forward(self, tokens: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        pooled = queries + self.ls1(self.attn(*self._normalised(tokens, queries)))
        return pooled + self.ls2(self.mlp(self.norm2(pooled)))

    def shares(self, tokens: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Share of each token in what each query gets: (B, num_heads, Q, N), 0 to 1."""
        return self.attn.shares(*self._normalised(tokens, queries))[..., -tokens.shape[1] :]

    def _normalised(self, tokens: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What asks and what is asked. Queries are the same for all images, and are normalised and projected once."""
        normalised, asked = self.norm1(queries), self.norm1(tokens)
        if self.sees_query:
            asked = torch.cat([normalised.expand(tokens.shape[0], -1, -1), asked], dim=1)
        return normalised, asked


class ClassQueries(nn.Module):
    """Head with a query for each class, and a linear function of the vector that this query pools: (B, C, D) -> (B, C)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_classes, dim), std=INIT_STD))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.queries = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_classes, dim), std=INIT_STD))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return (pooled * self.weight).sum(dim=2) + self.bias
