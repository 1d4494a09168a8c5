"""Networks and losses written from their definitions, to compare the real ones with."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.params import Params


def mlp_by_hand(params: Params, x: Tensor) -> Tensor:
    x = torch.clamp(x.reshape(len(x), -1) @ params["layer0.weight"].T + params["layer0.bias"], 0)
    x = torch.clamp(x @ params["layer1.weight"].T + params["layer1.bias"], 0)
    return x @ params["layer2.weight"].T + params["layer2.bias"]


def conv4_by_hand(params: Params, x: Tensor, *, has_norm: bool) -> Tensor:
    """The same network from its definition: unfolded windows, pooling after ReLU."""
    for layer in ("block0", "block1"):
        n, _, height, width = x.shape
        windows = F.unfold(x, 3, padding=1)  # [n, c * 9, h * w]
        x = (params[f"{layer}.conv.weight"].flatten(1) @ windows).reshape(n, -1, height, width)
        if has_norm:
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            spread = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
            x = (x - mean) / torch.sqrt(spread + 1e-5)
            x = x * params[f"{layer}.norm.scale"][:, None, None]
            x = x + params[f"{layer}.norm.shift"][:, None, None]
        else:
            x = x + params[f"{layer}.conv.bias"][:, None, None]
        x = torch.clamp(x, 0).unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
    x = x.flatten(1)
    return x @ params["head.weight"].T + params["head.bias"] if "head.weight" in params else x


def loss_by_hand(logits: Tensor, targets: Tensor) -> Tensor:
    picked = logits[torch.arange(len(targets)), targets]
    return (torch.logsumexp(logits, dim=1) - picked).mean()
