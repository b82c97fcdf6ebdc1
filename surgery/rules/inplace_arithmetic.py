"""Sums and products written into the value that an activation has to remember for backward."""

from collections.abc import Iterator, Sequence

from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.names import canonical
from surgery.observing.trace import Untraceable
from surgery.operating.rewrite import redirect_later_readers
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rewrites, Rule, Stage
from surgery.rule_parts.example_call import ExampleCall

_METHODS = ("add", "sub", "mul", "div", "clamp", "clamp_min", "clamp_max")
# Autograd keeps the output of these; of SiLU, GELU and Hardswish, which ReLU replaces, it keeps the input.
_REMEMBERED = {"relu", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "sqrt", "rsqrt"}


class NotInplaceArithmetic(Rule):
    """``x += y`` right after an activation that became ReLU overwrites what its backward needs."""

    name = "not_inplace_arithmetic"
    promise = Promise.SAME_OUTPUT
    follows = True
    stage = Stage.CLEANUP

    def examples(self) -> Sequence[Example]:
        """Operators and methods after a ReLU; after a product, which remembers its inputs, they stay."""
        shape = (2, 4, 5, 5)
        written = lambda x: F.relu(x).mul_(2)  # noqa: E731
        return [
            Example(ExampleCall.of(written), shape, 1),
            Example(ExampleCall.of(_added), shape, 1),
            Example(ExampleCall.of(lambda x: F.silu(x).mul_(2)), shape, 0),
        ]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Modules that were seen to do it."""
        for name in _overwriting(evidence):
            traced = evidence.traced(name)
            if isinstance(traced, Untraceable):
                yield Refusal(self.name, name, f"overwrites an activation's output; cannot trace it: {traced.reason}")
                continue
            counts = {"train": self.rewrite(traced.train).count, "eval": self.rewrite(traced.evaluate).count}
            evidence.rewritten.keep(self.name, name, traced)
            yield self.edit(name, "inplace arithmetic -> new values", {"rewrites": counts, "trace": traced.method})

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """``x.add_(y)`` becomes ``x.add(y)``, which later readers of x read; ``x += y`` is traced as a new value.

        The whole forward counts as one place.
        """
        for node in graph.nodes:
            if node.op == "call_method" and str(node.target).endswith("_") and canonical(node.target) in _METHODS:
                node.target = canonical(node.target)
                redirect_later_readers(node, node)
        return Rewrites(1)


def _overwriting(evidence: Evidence) -> list[str]:
    """Modules whose own forward writes into a value that autograd remembers."""
    observation = evidence.observation()
    if observation is None:
        return []
    writer: dict[int, str] = {}
    found: dict[str, None] = {}
    for call in observation.calls:
        inplace = call.outputs[:1] == call.inputs[:1]
        if inplace and call.function in _METHODS and writer.get(call.inputs[0]) in _REMEMBERED:
            found[call.module] = None
        writer |= dict.fromkeys(call.outputs, call.function)
    return list(found)


def _added(x: Tensor) -> Tensor:
    y = F.relu(x)
    y += x
    return y
