"""Losses, metrics and checks for non-finite values that all learners share."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import DataError, NumericsError
from metafleet.learners.average_precision import mean_average_precision
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import Params


def mean_loss(outputs: Tensor, targets: Tensor, *, is_regression: bool) -> Tensor:
    """Return the mean loss that fits the targets.

    If targets are classes [n], the loss is the cross-entropy of logits [n, n_way]. If targets are
    several labels [n, n_way], it is the binary cross-entropy of logits. If targets are values [n,
    d], it is the squared error.
    """
    if not is_regression and targets.dim() == 2:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))
    if not is_regression:
        return F.cross_entropy(outputs, targets)
    if outputs.shape != targets.shape:
        raise DataError(
            f"targets have shape {tuple(targets.shape)} but the model predicts "
            f"{tuple(outputs.shape)}; regression targets are [n, target_dim]"
        )
    return F.mse_loss(outputs, targets)


def is_counted(targets: Tensor, n_outputs: int) -> Tensor:
    """Return which targets are classes; losses ignore all other targets, such as -100."""
    return (targets >= 0) & (targets < n_outputs)


def judge(outputs: Tensor, targets: Tensor, loss: Tensor, *, is_regression: bool) -> EpisodeMetrics:
    """Return the loss and, for classification, the accuracy or mean average precision.

    Raises:
        NumericsError: the loss is not finite.
    """
    value = loss.item()
    if not math.isfinite(value):
        is_of_classes = not is_regression and targets.dim() == 1
        if is_of_classes and not bool(is_counted(targets, outputs.shape[1]).any()):
            raise NumericsError(
                f"query loss is {value}: it leaves out all {len(targets)} examples of the query "
                "set; expected some with the label of a class"
            )
        raise NumericsError(f"query loss is {value}; lower the learning rates or check the inputs")
    if is_regression:
        return EpisodeMetrics(loss=value, accuracy=None)
    if targets.dim() == 2:
        return EpisodeMetrics(loss=value, accuracy=mean_average_precision(outputs, targets))
    n_right = int((outputs.argmax(dim=1) == targets).sum())
    n_counted = int(is_counted(targets, outputs.shape[1]).sum())
    return EpisodeMetrics(loss=value, accuracy=n_right / max(n_counted, 1))


def require_finite_gradients(grads: Mapping[str, Tensor], loss: Tensor) -> None:
    """Check that the gradients of a finite loss are finite.

    Raises:
        NumericsError: a gradient is not finite; the message names the first such parameter.
    """
    if not grads or bool(torch.isfinite(torch.stack([g.sum() for g in grads.values()]).sum())):
        return  # a sum is finite only if all its terms are, so one check covers all gradients
    for name, grad in grads.items():
        if not bool(torch.isfinite(grad).all()):
            raise NumericsError(
                f"gradient of {name!r} is not finite although the query loss is {loss.item()}; "
                "lower the learning rates or check the inputs"
            )


def apart(grads: Mapping[str, Tensor]) -> Params:
    """Return contiguous gradients that share no memory.

    Autograd may return the same tensor as the gradient of two parameters. Gradients are summed in
    place. If two parameters shared a tensor, both sums would be added to this tensor.
    """
    taken = set()
    found: Params = {}
    for name, grad in grads.items():
        own = grad.contiguous()
        place = own.untyped_storage().data_ptr()
        found[name] = own.clone() if place in taken else own
        taken.add(place)
    return found


def require_finite_losses(losses: Sequence[Tensor], *, inner_lr: float | None) -> None:
    """Check that no inner step diverged.

    Args:
        losses: the support loss of each inner step, each a scalar. The sequence may be empty.
        inner_lr: step size that the message names; None if the learner has no step size.

    Raises:
        NumericsError: a support loss is not finite; the message names the inner step, counted from
            1.
    """
    if not losses or bool(torch.isfinite(torch.stack(list(losses))).all()):
        return
    step, value = next((i, v.item()) for i, v in enumerate(losses, 1) if not torch.isfinite(v))
    rate = "" if inner_lr is None else f" with inner_lr={inner_lr}"
    raise NumericsError(
        f"support loss is {value} at inner step {step} of {len(losses)}{rate}; "
        "lower the inner learning rate or check the input scaling"
    )
