"""A memory-augmented neural network."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.learners.pairs import SequenceLearner
from metafleet.models.dense import dense, init_dense
from metafleet.models.init import AFTER_MODEL
from metafleet.models.recurrent import init_lstm, lstm_cell
from metafleet.options import require
from metafleet.params import Params

_BLANK = 1e-6
"""Initial value of the memory; not 0, because a cosine with zeros has no gradient."""


@dataclass(frozen=True, slots=True)
class MannOptions:
    """Options of ``Mann``.

    Attributes:
        units: units of the LSTM controller, >= 1.
        slots: rows of the memory, > ``reads``.
        width: number of values in a row of the memory, >= 1.
        reads: number of read heads, >= 1.
        key_strength: factor for the cosines when memory is read, > 0. The paper uses 1. With the
            factor 1, each head reads a little of every row during much of the training.
        usage_decay: gamma, the share of a slot's usage that remains after a step, in [0, 1).
    """

    units: int = 200
    slots: int = 128
    width: int = 40
    reads: int = 4
    key_strength: float = 1.0
    usage_decay: float = 0.95

    def __post_init__(self) -> None:
        for option in ("units", "width", "reads"):
            require(getattr(self, option) >= 1, option, getattr(self, option), "1 or more")
        require(self.slots > self.reads, "slots", self.slots, f"more than reads={self.reads}")
        require(self.key_strength > 0, "key_strength", self.key_strength, "more than 0")
        decay = self.usage_decay
        require(0.0 <= decay < 1.0, "usage_decay", decay, "0 or more and less than 1")


class Memory(NamedTuple):
    """The state carried from one step to the next, for a batch of n sequences.

    Attributes:
        hidden, cell: state of the controller, [n, units].
        rows: the memory, [n, slots, width].
        reading: read weights, [n, reads, slots]; each row sums to 1.
        usage: how much each slot was recently read and written, [n, slots].
        recalled: the values that were read, [n, reads * width].
    """

    hidden: Tensor
    cell: Tensor
    rows: Tensor
    reading: Tensor
    usage: Tensor
    recalled: Tensor


class Mann(SequenceLearner[MannOptions]):
    """An LSTM that writes its inputs to a memory and reads the memory by similarity.

    Step t gets x_t and the target of step t - 1. An example and its target therefore arrive at
    different steps, and only the memory can associate them. The memory M has rows M_i. At each
    step, the controller outputs a key k and a number a. The number b is ``key_strength``. A prime
    marks values of the previous step.

    - Reading: w_r = softmax_i(b cos(k, M_i)) and r = sum_i w_r(i) M_i.
    - Writing: w_w = sigmoid(a) w_r' + (1 - sigmoid(a)) w_lu. The weights w_r' select the slots that
      the previous step read, and the weights w_lu select the least used slots. First, the least
      used slot is set to zero. Then M_i += w_w(i) k.
    - Usage: usage = gamma usage' + w_r + w_w.

    The output is a linear function of the hidden state and r.

    Source: Santoro et al. 2016, arXiv:1605.06065, eq. 1 to 8 and section 3. The default sizes are
    those of section 4.1.
    """

    name: ClassVar[str] = "mann"
    Options: ClassVar[type] = MannOptions

    def init_reader(self, seed: int) -> Params:
        """Draw the parameters of controller, keys, gates and output layer."""
        own = self.options
        n_read = own.reads * own.width
        params = init_lstm(
            seed,
            AFTER_MODEL,
            "controller",
            n_inputs=self.n_inputs + self.n_targets,
            n_units=own.units,
            n_hidden=own.units + n_read,
        )
        params |= init_dense(seed, AFTER_MODEL + 3, "key", [own.units, n_read])
        params |= init_dense(seed, AFTER_MODEL + 5, "gate", [own.units, own.reads])
        sizes = [own.units + n_read, self.n_targets]
        return params | init_dense(seed, AFTER_MODEL + 7, "answer", sizes)

    def read(self, params: Params, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """Read the support set once, then each query from the resulting state."""
        memory = self._blank(support)
        previous = torch.zeros_like(targets[:1])
        for x, y in zip(torch.split(support, 1), torch.split(targets, 1), strict=True):
            memory = self._step(params, torch.cat([x, previous], dim=1), memory)
            previous = y
        n = len(query)
        spread = Memory(*(part.expand(n, *part.shape[1:]) for part in memory))
        asked = torch.cat([query, previous.expand(n, -1)], dim=1)
        after = self._step(params, asked, spread)
        return dense(params, "answer", torch.cat([after.hidden, after.recalled], dim=1))

    def _blank(self, like: Tensor) -> Memory:
        own = self.options
        hidden = like.new_zeros(1, own.units)
        reading = like.new_zeros(1, own.reads, own.slots)
        rows = like.new_full((1, own.slots, own.width), _BLANK)
        recalled = like.new_zeros(1, own.reads * own.width)
        return Memory(hidden, hidden, rows, reading, like.new_zeros(1, own.slots), recalled)

    def _step(self, params: Params, x: Tensor, memory: Memory) -> Memory:
        own = self.options
        joined = torch.cat([memory.hidden, memory.recalled], dim=1)
        hidden, cell = lstm_cell(params, "controller", x, (joined, memory.cell))
        keys = torch.tanh(dense(params, "key", hidden)).view(-1, own.reads, own.width)
        gates = torch.sigmoid(dense(params, "gate", hidden))[..., None]

        least_used = _lowest(memory.usage, own.reads)
        writing = gates * memory.reading + (1.0 - gates) * least_used
        kept = memory.rows * (1.0 - least_used[:, 0])[..., None]
        rows = kept + writing.transpose(1, 2) @ keys
        cosines = F.normalize(keys, dim=2) @ F.normalize(rows + _BLANK, dim=2).transpose(1, 2)
        reading = torch.softmax(own.key_strength * cosines, dim=2)
        usage = own.usage_decay * memory.usage + (reading + writing).sum(dim=1)
        return Memory(hidden, cell, rows, reading, usage, (reading @ rows).flatten(1))


def _lowest(usage: Tensor, n: int) -> Tensor:
    """Return one-hot rows for the n least used slots, least used first, [batch, n, slots].

    The choice of slots carries no gradient. Ties go to the first slot.
    """
    slots = torch.arange(usage.shape[1], device=usage.device)
    order = torch.sort(usage.detach(), dim=1, stable=True).indices[:, :n]
    return (order[..., None] == slots).to(usage.dtype)
