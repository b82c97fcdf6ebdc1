"""Layers that only do something in train mode: dropout, stochastic depth and their kin."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import fx, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.trace import Traced
from surgery.patterns.pattern import CallPattern, Match
from surgery.record import Edit, Refusal
from surgery.rule import Decline, Example, Promise, Rule, Stage
from surgery.rule_parts.example_call import ExampleCall


class RemoveDropout(Rule):
    """An option: dropout is nothing in eval mode, but removing it takes regularisation away from the training after."""

    name = "remove_dropout"
    promise = Promise.SAME_OUTPUT
    stage = Stage.CLEANUP
    default = False
    types = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    class_names = (
        "timm.layers.drop.DropPath",
        "timm.layers.drop.DropBlock2d",
        "timm.layers.patch_dropout.PatchDropout",
        "torchvision.ops.stochastic_depth.StochasticDepth",
        "torchvision.ops.drop_block.DropBlock2d",
        "torchvision.ops.drop_block.DropBlock3d",
        "mmcv.cnn.bricks.drop.DropPath",
    )
    patterns = (
        CallPattern(
            *("dropout", "dropout1d", "dropout2d", "dropout3d"),
            *("alpha_dropout", "feature_dropout", "feature_alpha_dropout"),
        ),
    )

    def examples(self) -> Sequence[Example]:
        """Layers and calls; a call that is on in eval mode too stays."""
        shape = (2, 4, 5, 5)
        calls = (
            lambda x: F.dropout(x, 0.5, training=False),
            lambda x: F.dropout2d(x * 2, 0.5, training=False, inplace=True),
        )
        in_block = lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout2d())  # noqa: E731
        return [
            *(Example(kind, shape, 1) for kind in (nn.Dropout, nn.AlphaDropout, in_block)),
            *(Example(ExampleCall.of(f), shape, 1) for f in calls),
            Example(ExampleCall.of(F.dropout), shape, 0),
        ]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Nothing; the name stays."""
        return nn.Identity()

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """All but calls that drop values in eval mode too."""
        for proposal in super().propose(model, evidence):
            if isinstance(proposal, Edit) and "rewrites" in proposal.params and self._is_on(proposal.site, evidence):
                yield Refusal(self.name, proposal.site, "its forward drops values in eval mode too")
            else:
                yield proposal

    def _is_on(self, site: str, evidence: Evidence) -> bool:
        traced = evidence.traced(site)
        matches = self.patterns[0].matches(traced.evaluate) if isinstance(traced, Traced) else ()
        return any(_training(match.root) is not False for match in matches)

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """What the call received."""
        return match.variables[0]


def _training(node: fx.Node) -> Any:
    """The argument that turns a call on: third, or by the name that the function gives it."""
    if len(node.args) > 2:
        return node.args[2]
    return node.kwargs.get("training", node.kwargs.get("train", True))
