"""SNAIL: temporal convolutions and causal attention over the examples of an episode."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.learners.pairs import SequenceLearner
from metafleet.models.attention import attend
from metafleet.models.dense import dense, init_dense
from metafleet.models.init import AFTER_MODEL
from metafleet.options import require
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class SnailOptions:
    """Options of ``Snail``.

    Attributes:
        filters: D, the number of filters of a dense block, >= 4. The numbers of attention keys and
            values are proportional to D.
    """

    filters: int = 128

    def __post_init__(self) -> None:
        require(self.filters >= 4, "filters", self.filters, "4 or more")


class Snail(SequenceLearner[SnailOptions]):
    """Read (x_1, y_1), ..., (x_m, y_m), (x, 0), and predict the target of x at the last position.

    The network is Attention(D/2 keys, D/4 values), TC(D), Attention(2 D keys, D values), TC(D),
    Attention(4 D keys, 2 D values), and a linear layer. Each block's output is concatenated to its
    input. For a sequence of length T, a TC block consists of ceil(log2 T) dense blocks. Dense block
    i = 0, 1, ... applies two causal convolutions a and b with kernel 2 and dilation 2^i, and
    outputs tanh(a) sigmoid(b). With D = 128, these are the paper's sizes on Omniglot.

    Source: Mishra et al. 2018, arXiv:1707.03141, section 3, figure 2 and appendix A.
    """

    name: ClassVar[str] = "snail"
    Options: ClassVar[type] = SnailOptions

    @property
    def _attentions(self) -> tuple[tuple[int, int], ...]:
        """Sizes of keys and values in each attention block."""
        d = self.options.filters
        return ((d // 2, d // 4), (2 * d, d), (4 * d, 2 * d))

    @property
    def _dilations(self) -> tuple[int, ...]:
        """Dilation of each dense block; together they cover the longest sequence of any split."""
        shapes = self.problem.episodes.values()
        longest = max(shape.k_shot * max(shape.n_way, 1) + 1 for shape in shapes)
        return tuple(2**i for i in range(max(1, math.ceil(math.log2(longest)))))

    def init_reader(self, seed: int) -> Params:
        """Draw the parameters of all blocks."""
        params: Params = {}
        index, width, d = AFTER_MODEL, self.n_inputs + self.n_targets, self.options.filters

        def add(name: str, n_in: int, n_out: int, *, has_bias: bool = True) -> None:
            nonlocal index
            params.update(init_dense(seed, index, name, [n_in, n_out], has_bias=has_bias))
            index += 2

        for block, (n_keys, n_values) in enumerate(self._attentions):
            for part, n_out in (("query", n_keys), ("key", n_keys), ("value", n_values)):
                add(f"attention{block}.{part}", width, n_out, has_bias=part != "key")
            width += n_values
            if block == len(self._attentions) - 1:
                break
            for i, _ in enumerate(self._dilations):
                # kernel 2: one product for an example and its predecessor, and for both gates
                add(f"tc{block}.dense{i}", 2 * width, 2 * d)
                width += d
        add("answer", width, self.n_targets)
        return params

    def read(self, params: Params, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """Make a sequence for each query, [n, m + 1, width], and predict at its end."""
        n = len(query)
        pairs = torch.cat([support, targets], dim=1).expand(n, -1, -1)
        asked = torch.cat([query, query.new_zeros(n, self.n_targets)], dim=1)
        x = torch.cat([pairs, asked[:, None]], dim=1)
        length = x.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        for block in range(len(self._attentions)):
            parts = [dense(params, f"attention{block}.{p}", x) for p in ("query", "key", "value")]
            x = torch.cat([x, attend(parts[0], parts[1], parts[2], mask=causal)], dim=2)
            if block < len(self._attentions) - 1:
                x = self._tc_block(params, f"tc{block}", x)
        return dense(params, "answer", x[:, -1])

    def _tc_block(self, params: Params, name: str, x: Tensor) -> Tensor:
        for i, dilation in enumerate(self._dilations):
            before = F.pad(x, (0, 0, dilation, 0))[:, : x.shape[1]]
            both = dense(params, f"{name}.dense{i}", torch.cat([before, x], dim=2))
            value, gate = both.chunk(2, dim=2)
            x = torch.cat([x, torch.tanh(value) * torch.sigmoid(gate)], dim=2)
        return x
