"""What every learner minimises, reports and refuses: losses, metrics, non-finite values."""

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import DataError, NumericsError
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import Params


def mean_loss(outputs: Tensor, targets: Tensor, *, is_regression: bool) -> Tensor:
    """Return mean cross-entropy of logits [n, n_way], or mean squared error of values [n, d]."""
    if not is_regression:
        return F.cross_entropy(outputs, targets)
    if outputs.shape != targets.shape:
        raise DataError(
            f"targets have shape {tuple(targets.shape)} but the model predicts "
            f"{tuple(outputs.shape)}; regression targets are [n, target_dim]"
        )
    return F.mse_loss(outputs, targets)


def judge(outputs: Tensor, targets: Tensor, loss: Tensor, *, is_regression: bool) -> EpisodeMetrics:
    """Return the loss, and for classification the share of examples whose largest logit is right.

    Raises:
        NumericsError: the loss is not finite.
    """
    value = loss.item()
    if not torch.isfinite(loss):
        raise NumericsError(f"query loss is {value}; lower the learning rates or check the inputs")
    if is_regression:
        return EpisodeMetrics(loss=value, accuracy=None)
    n_right = int((outputs.argmax(dim=1) == targets).sum())
    return EpisodeMetrics(loss=value, accuracy=n_right / len(targets))


def meta_gradient(loss: Tensor, params: Mapping[str, Tensor]) -> Params:
    """Differentiate ``loss`` for each of ``params``.

    Raises:
        NumericsError: a gradient is not finite.
    """
    grads = torch.autograd.grad(loss, list(params.values()))
    named = dict(zip(params, _apart(grads), strict=True))
    for name, grad in named.items():
        if not bool(torch.isfinite(grad).all()):
            raise NumericsError(
                f"gradient of {name!r} is not finite although the query loss is {loss.item()}; "
                "lower the learning rates or check the inputs"
            )
    return named


def _apart(grads: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield contiguous tensors that share no memory, which autograd does not promise.

    Sums are added in place; two names on one tensor would be added twice.
    """
    taken = set()
    for grad in grads:
        own = grad.contiguous()
        place = own.untyped_storage().data_ptr()
        yield own.clone() if place in taken else own
        taken.add(place)


def require_finite_losses(losses: Iterable[Tensor], *, inner_lr: float) -> None:
    """Refuse an adaptation that diverged.

    Raises:
        NumericsError: a support loss is not finite; names the inner step, counted from 1.
    """
    values = [loss.detach() for loss in losses]
    if bool(torch.isfinite(torch.stack(values)).all()):
        return
    step, value = next((i, v.item()) for i, v in enumerate(values, 1) if not torch.isfinite(v))
    raise NumericsError(
        f"support loss is {value} at inner step {step} of {len(values)} with "
        f"inner_lr={inner_lr}; lower inner_lr or check the input scaling"
    )


def as_leaves(params: Mapping[str, Tensor]) -> Params:
    """Return the same values as fresh tensors to differentiate for; ``params`` are left alone."""
    return {name: value.detach().requires_grad_() for name, value in params.items()}
