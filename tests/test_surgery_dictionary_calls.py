"""Function and method entries of a dictionary: what of a call's arguments another function or a module gets."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from calling import Calls, X
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery import Pattern, dictionary_rules, replace_unsupported_layers


def replaced(code: Callable[[Any], Any], key: Any, value: Any, example: Tensor = X) -> Tensor:
    """What one line gives with the entry, by surgery and by replay of its plan."""
    model, entries = nn.Sequential(Calls(code)), {key: value}
    lite, report = surgery.lite(model, dictionary_rules(entries), example)
    assert report.edits[0].params["rewrites"] == {"train": 1, "eval": 1}
    again = surgery.replay(model, report.plan, dictionary_rules(entries))
    assert torch.equal(again.train()(example), lite.train()(example))
    return lite.eval()(example)


EVERYDAY = [F.leaky_relu, F.elu, F.hardtanh, F.rrelu, F.celu, F.selu, F.gelu, F.softplus, F.relu6]


@pytest.mark.parametrize("function", EVERYDAY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("value", [F.relu, torch.relu])
def test_defaults_that_tracing_spells_out_do_not_matter(function: Any, value: Any) -> None:
    assert torch.equal(replaced(function, function, value), X.relu())


def test_defaults_written_out_do_not_matter() -> None:
    assert torch.equal(replaced(lambda x: F.softplus(x, 1, 20), F.softplus, F.relu), X.relu())
    assert torch.equal(replaced(lambda x: F.elu(x, alpha=1.0, inplace=False), F.elu, F.relu), X.relu())


@pytest.mark.parametrize(
    "code", [lambda x: F.leaky_relu(x, 0.2), lambda x: F.softplus(x, 2.0), lambda x: F.elu(x, alpha=0.5)]
)
def test_settings_that_the_other_function_lacks_are_a_refusal(code: Callable[[Any], Any]) -> None:
    entries = {F.leaky_relu: F.relu, F.softplus: F.relu, F.elu: F.relu}
    with pytest.warns(UserWarning, match="dict: "):
        lite = replace_unsupported_layers(nn.Sequential(Calls(code)), entries, X)
    (refusal,) = lite.surgery_report.refusals
    assert "relu does not take the arguments of the call" in refusal.reason
    assert torch.equal(lite(X), code(X))


@pytest.mark.parametrize(
    "code",
    [
        lambda x: F.max_pool2d(x, 3, 1, 1),
        lambda x: F.max_pool2d(x, 3, stride=1, padding=1),
        lambda x: torch.max_pool2d(x, 3, 1, 1, 1),
    ],
)
def test_pools(code: Callable[[Any], Any]) -> None:
    assert torch.equal(replaced(code, F.max_pool2d, F.avg_pool2d), F.avg_pool2d(X, 3, 1, 1))


def test_settings_go_by_their_names() -> None:
    ceil = lambda x: torch.max_pool2d(x, 3, 2, 0, 1, True)  # noqa: E731
    assert torch.equal(replaced(ceil, F.max_pool2d, F.avg_pool2d), F.avg_pool2d(X, 3, 2, 0, True))
    assert torch.equal(
        replaced(lambda x: F.avg_pool2d(x, 3, 1, 1), F.avg_pool2d, F.max_pool2d), F.max_pool2d(X, 3, 1, 1)
    )


def shifted(x: Tensor, dim: int) -> Tensor:
    return x.relu() + dim


def shifted_by_another_name(x: Tensor, axis: int) -> Tensor:
    return x.relu() + axis


@pytest.mark.parametrize("function", [shifted, shifted_by_another_name])
@pytest.mark.parametrize("code", [lambda x: F.softmax(x, dim=-1), lambda x: F.softmax(x, -1), lambda x: x.softmax(-1)])
def test_own_functions_take_what_matters(function: Any, code: Callable[[Any], Any]) -> None:
    assert torch.equal(replaced(code, F.softmax, function), X.relu() - 1)


def enlarged(x: Tensor, scale_factor: int) -> Tensor:
    return x.repeat_interleave(scale_factor, 2).repeat_interleave(scale_factor, 3)


def padded(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    return F.pad(x, pad, value=0.0)


def reshaped(x: Tensor, *shape: int) -> Tensor:
    return x.reshape(*shape)


@pytest.mark.parametrize(
    ("key", "code", "function", "expected"),
    [
        (F.interpolate, lambda x: F.interpolate(x, scale_factor=2), enlarged, F.interpolate(X, scale_factor=2)),
        (F.pad, lambda x: F.pad(x, (1, 0, 1, 0)), padded, F.pad(X, (1, 0, 1, 0))),
        (F.normalize, F.normalize, lambda x: x * 2, X * 2),
        (F.layer_norm, lambda x: F.layer_norm(x, (8,)), lambda x, shape: x * 2, X * 2),
        (F.layer_norm, lambda x: F.layer_norm(x, (8,)), lambda x, normalized_shape, eps: x * eps, X * 1e-5),
    ],
)
def test_own_functions_for_functions_with_many_settings(
    key: Any, code: Callable[[Any], Any], function: Any, expected: Tensor
) -> None:
    assert torch.equal(replaced(code, key, function), expected)


@pytest.mark.parametrize(
    ("code", "key", "value", "expected"),
    [
        (lambda x: x.permute(0, 2, 3, 1), Tensor.permute, torch.permute, X.permute(0, 2, 3, 1)),
        (lambda x: x.permute((0, 2, 3, 1)), Tensor.permute, torch.permute, X.permute(0, 2, 3, 1)),
        (lambda x: x.view(x.shape[0], -1), Tensor.view, torch.reshape, X.flatten(1)),
        (lambda x: x.view(-1), Tensor.view, Tensor.reshape, X.flatten()),
        (lambda x: x.view((*x.shape[:2], 64)), Tensor.view, torch.reshape, X.flatten(2)),
        (lambda x: x.view(2, -1), Tensor.view, reshaped, X.flatten(1)),
    ],
)
def test_numbers_apart_become_one_sequence(code: Callable[[Any], Any], key: Any, value: Any, expected: Tensor) -> None:
    assert torch.equal(replaced(code, key, value), expected)


class Doubling:
    def __call__(self, x: Tensor) -> Tensor:
        return x * 2


@pytest.mark.parametrize("key", [F.silu, Pattern(F.silu)])
def test_any_callable_is_a_value(key: Any) -> None:
    slope = functools.partial(F.leaky_relu, negative_slope=0.3)
    assert torch.equal(replaced(F.silu, key, slope), F.leaky_relu(X, 0.3))
    assert torch.equal(replaced(F.silu, key, Doubling()), X * 2)
    assert torch.equal(replaced(F.silu, key, lambda x: x * 2), X * 2)


class Silu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


@pytest.mark.parametrize("key", [F.silu, Pattern(F.silu)])
def test_new_modules_have_the_data_type_of_the_values(key: Any) -> None:
    parts = nn.Sequential(nn.Conv2d(4, 4, 1), Silu()).double()
    for model, example in ((nn.Sequential(Silu()), X.double()), (parts, X.double()), (parts, None)):
        lite = replace_unsupported_layers(model, {key: nn.PReLU}, example)
        assert {parameter.dtype for parameter in lite.parameters()} == {torch.float64}
        again = surgery.replay(model, lite.surgery_report.plan, dictionary_rules({key: nn.PReLU}))
        assert {parameter.dtype for parameter in again.parameters()} == {torch.float64}


class Weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.conv.weight, bias=self.conv.bias)
        return F.batch_norm(y, self.norm.running_mean, self.norm.running_var, self.norm.weight, bias=self.norm.bias)


def test_modules_get_no_weights_of_others() -> None:
    new, norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, eps=0.1).eval()
    lite = replace_unsupported_layers(nn.Sequential(Weights()).eval(), {F.conv2d: new, F.batch_norm: norm}, X)
    assert len(lite.surgery_report.edits) == 2
    assert torch.equal(lite(X), norm(new(X)))


def test_modules_get_all_inputs() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x - y

    assert torch.equal(replaced(lambda x: torch.add(x, other=x.relu()), torch.add, Sum()), X - X.relu())
