"""Every rule says truly what it removes, what it emits and what it risks: shown on its own examples."""

from collections import Counter

import pytest
import torch
from torch import nn

import surgery
from surgery import Operator, Risk, Rule
from surgery.rule_parts import operator_names

RULES = surgery.rules()
# Views, copies, and what computes sizes and constants, which no device runs for every image.
VIEWS = {"alias", "as_strided", "clone", "detach", "empty", "expand", "repeat", "select", "squeeze", "t", "unsqueeze"}
VIEWS |= {"view", "_unsafe_view", "split", "unbind", "transpose", "permute"}
CONSTANTS = {"_to_copy", "abs", "any", "arange", "bitwise_and", "bitwise_or", "floor", "floor_divide", "ge", "gt"}
CONSTANTS |= {"eq", "index_select", "le", "lift_fresh", "logical_not", "lt", "ones_like", "promote_types", "rsub"}
CONSTANTS |= {"scalar_tensor", "triu", "trunc", "where"}
SIZES = {"add", "sub", "mul", "div", "clamp", "sum"}  # of constants too, where a rule makes them from sizes
MAKES_CONSTANTS = {"resize_by_factor", "split_avg_pool", "adaptive_avg_pool_to_plain", "spell_out_attention"}
# What an exporter calls an operator that has another name where it runs.
EXPORTED = {"conv1d", "conv2d", "conv_transpose2d", "max_pool2d", "linear", "matmul", "softmax", "layer_norm"}
EXPORTED |= {"group_norm", "instance_norm", "rms_norm", "batch_norm", "adaptive_avg_pool2d", "prelu", "relu6"}
EXPORTED |= {"scaled_dot_product_attention", "avg_pool1d", "selu", "log_softmax", "log_sigmoid", "max_pool1d"}
EXPORTED |= {"conv_transpose1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"}
# Sets that several rules share name more than each rule's examples show.
SHARED = operator_names.NORMS | operator_names.MEANS | operator_names.ARITHMETIC | operator_names.ATTENTION
SHARED |= operator_names.LINEAR | operator_names.BATCHNORM


def around(rule: Rule) -> list[tuple[Counter[Operator], Counter[Operator]]]:
    """The operators of each of a rule's examples, before and after."""
    found = []
    for example in rule.examples():
        if not example.edits:
            continue
        torch.manual_seed(0)
        model = nn.Sequential(example.build()).eval()
        x = 5 * torch.randn(example.shape)
        lite, _ = surgery.lite(model, [rule.name], example_inputs=(x,), calibration=[x])
        before, after = (Counter(map(_plain, surgery.operators(each, (x.clone(),)))) for each in (model, lite))
        found.append((before, after))
    return found


def _plain(operator: Operator) -> Operator:
    """What it is and its settings; in-place variants count as the same.

    Among the settings are a convolution's kernel and what a mean is taken of.
    """
    sizes = operator.inputs[1:2] if operator.name == "convolution" else ()
    sizes = operator.inputs[:1] if operator.name == "mean" else sizes
    return Operator(operator.name.rstrip("_"), "", sizes, tuple(map(str, operator.attributes)))


def names(operators: Counter[Operator]) -> set[str]:
    return {operator.name for operator in operators} - CONSTANTS


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_a_rule_removes_and_emits_what_it_says(rule: Rule) -> None:
    constants = SIZES if rule.name in MAKES_CONSTANTS else set()
    found = around(rule)
    assert found
    lost, gained, after = set(), set(), set()
    for old, new in found:
        lost |= names(old - new)
        gained |= names(new - old)
        after |= names(new)
    assert lost - VIEWS - rule.removes <= rule.emits, (
        "it removes more than it says"
    )  # what it emits may be there before
    assert gained - VIEWS - constants - rule.removes <= rule.emits, "it emits more than it says"
    assert rule.emits <= after, "no example shows what it emits"
    assert lost & rule.removes or not rule.removes - EXPORTED - VIEWS, "no example shows what it removes"
    if not any(shared <= rule.removes for shared in (operator_names.MEANS, operator_names.ATTENTION)):
        assert rule.removes - EXPORTED - SHARED - VIEWS <= lost, "it says that it removes more than its examples show"


def test_all_rules_are_looked_at_and_most_declare_something() -> None:
    silent = {name for name, rule in RULES.items() if not rule.removes}
    assert silent == {
        "remove_auxiliary_heads",
        "remove_dropout",
        "remove_identity",
        "not_inplace",
        "not_inplace_arithmetic",
    }
    assert len(RULES) >= 46


def test_rules_without_risk_are_those_that_keep_the_output() -> None:
    for rule in RULES.values():
        assert (rule.risk is Risk.NONE) == (rule.promise == "same_output"), rule.name


def test_risks_are_ordered_as_accuracy_goes() -> None:
    def risk(name: str) -> Risk:
        return RULES[name].risk

    assert risk("split_large_kernel") < risk("relu6_to_relu") < risk("hardswish_to_relu") == risk("silu_to_relu")
    assert risk("gelu_to_relu") < risk("gate") == risk("squeeze_excite") == risk("norm_to_batchnorm")
    assert risk("gate") < risk("large_kernel_series")


def test_rules_that_follow_are_exact_and_by_default() -> None:
    follow = {name for name, rule in RULES.items() if rule.follows}
    assert follow == {"fold_channel_scale", "not_inplace", "not_inplace_arithmetic", "remove_identity"}
    assert all(RULES[name].promise == "same_output" and RULES[name].default for name in follow)
