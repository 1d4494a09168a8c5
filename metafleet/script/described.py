"""The one-line description of a ``MetaLearner``."""

from dataclasses import fields

from torch.nn.parameter import is_lazy

from metafleet.script.learning import Learning


def described(learning: Learning, *, waiting: str) -> str:
    """Return the module, algorithm, options, outer steps done, and batches since the last one."""
    algorithm = learning.algorithm if learning.is_decided else learning.asked
    options = algorithm.options
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    asides = {"inner_lr": _in_a_loop(learning)}
    if algorithm.takes_losses and values.get("first_order") is False:
        asides["first_order"] = " (in a training loop True)"
    said = ", ".join(
        f"{name}={v!r}{asides.get(name, '')}" for name, v in values.items() if v is not None
    )
    n_params = sum(v.numel() for v in learning.module.parameters() if not is_lazy(v))
    return (
        f"MetaLearner({type(learning.module).__name__} of {n_params} parameters, "
        f"{algorithm.name!r}{said and ', '}{said}; step {learning.step}"
        f"{waiting and f', {waiting} since'})"
    )


def _in_a_loop(learning: Learning) -> str:
    """Return a note on a training loop's step size if it would differ and is not decided yet."""
    rate = getattr(learning.asked.options, "inner_lr", None)
    in_a_loop = getattr(learning.asked.for_losses().options, "inner_lr", None)
    is_open = not learning.is_decided and rate != in_a_loop
    return f" (in a training loop {in_a_loop})" if is_open else ""
