import torch

from metafleet.params import MetaState, digest, flatten_state, unflatten_state


def random_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"b": torch.randn(3, 4, generator=generator), "a": torch.randn(2, generator=generator)}


def test_the_digest_is_known_and_never_changes() -> None:
    tensors = {"x": torch.arange(6, dtype=torch.float32).reshape(2, 3), "n": torch.tensor(7)}
    assert digest(tensors) == "4612efb4e313b34dfb501ea6c12425d710f215eccbd84bf3352a473cb5d1d79b"


def test_the_digest_does_not_depend_on_order_or_layout_of_memory() -> None:
    tensors = random_tensors()
    strided = {"a": tensors["a"], "b": tensors["b"].T.contiguous().T}
    assert not strided["b"].is_contiguous()
    assert digest(strided) == digest(tensors)


def test_the_digest_sees_name_type_shape_and_every_bit() -> None:
    tensors = random_tensors()
    last_bit = tensors["a"].clone()
    last_bit.view(torch.int32)[0] ^= 1
    others = [
        {"c": tensors["b"], "a": tensors["a"]},
        tensors | {"b": tensors["b"].double()},
        tensors | {"b": tensors["b"].reshape(4, 3)},
        tensors | {"a": last_bit},
        {"b": tensors["b"]},
    ]
    assert len({digest(t) for t in [tensors, *others]}) == 6


def test_the_digest_tells_zero_from_minus_zero() -> None:
    assert digest({"a": torch.tensor([0.0])}) != digest({"a": torch.tensor([-0.0])})


def test_flattening_keeps_params_and_buffers_apart() -> None:
    tensors = random_tensors()
    state = MetaState({"w": tensors["a"]}, {"w": tensors["b"]})
    flat = flatten_state(state)
    assert list(flat) == ["params.w", "buffers.w"]
    again = unflatten_state(flat)
    assert again.params["w"] is tensors["a"]
    assert again.buffers["w"] is tensors["b"]


def test_a_state_that_was_put_together_again_has_its_names_in_order() -> None:
    one = torch.ones(1)
    state = MetaState({"w": one, "rate": one, "b": one}, {"var": one, "mean": one})

    found = unflatten_state(flatten_state(state))

    assert list(found.params) == ["b", "rate", "w"]
    assert list(found.buffers) == ["mean", "var"]
