"""Vectors divided by their length are multiplied by a constant instead."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.call_flow import flow, only_returned
from surgery.observing.evidence import Evidence
from surgery.observing.shapes import example
from surgery.operating.example import call_with
from surgery.operating.modes import restored_modes
from surgery.operating.rewrite import call_new_module
from surgery.patterns.arguments import arguments
from surgery.patterns.pattern import CallPattern, Match
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Decline, Example, Promise, Rule, Stage, submodule


class MeanLength(nn.Module):
    """``x / ||x||`` along an axis with the mean of many inputs for 1 / ||x||, which is trained from there.

    A length grows with the root of the number of values, so that other image sizes are served too.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, which it keeps."""
        return torch.mul(input, self.scale * input.shape[self.dim] ** -0.5)

    def scale_of(self, input: Tensor) -> Tensor:
        """What comes closest to dividing these vectors by their length, in least squares."""
        squares = input.detach().double().square().sum(self.dim).flatten()
        return torch.mul(squares.sqrt().sum() / squares.sum().clamp_min(1e-30), input.shape[self.dim] ** 0.5)

    def extra_repr(self) -> str:
        """Its axis."""
        return f"dim={self.dim}"


class NormalizeToScale(Rule):
    """The length of every vector is a root of a sum of squares of each input; its mean is a constant. Vectors that are
    the model's output stay, and those that do not depend on its input."""

    name = "normalize_to_scale"
    promise = Promise.SAME_SHAPE
    risk = Risk.CONSTANT
    removes = frozenset({"linalg_vector_norm", "clamp_min", "div"})
    emits = frozenset({"mul"})
    stage = Stage.PART
    patterns = (CallPattern("normalize"),)

    def examples(self) -> Sequence[Example]:
        """Of data along any axis; not at the output, of weights, or by another length."""
        shape = (2, 4, 5, 6)
        return [
            Example(partial(_Vectors, dim=1), shape, 1),
            Example(partial(_Vectors, dim=-1), shape, 1),
            Example(partial(_Vectors, dim=1, last=True), shape, 0),
            Example(partial(_Vectors, dim=1, p=1.0), shape, 0),
        ]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Where something in the model reads them."""
        kept = _kept(evidence)
        for proposal in super().propose(model, evidence):
            own = kept.get(proposal.site, [])
            if isinstance(proposal, Refusal) or not any(own):
                yield proposal
            elif not all(own):
                yield Refusal(self.name, proposal.site, "some of its vectors are the model's output or constants")

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """A call of a new layer."""
        given = arguments(match.root)
        dim = given.get("dim", 1)
        if given.get("p", 2.0) != 2 or not isinstance(dim, int) or given.get("out") is not None:
            return Decline("it divides by another length than the root of the sum of squares along one axis")
        value = example(given["input"])
        if not isinstance(value, Tensor):
            return Decline("without example inputs it is not known whether it gives the model's output")
        layer = MeanLength(dim).to(device=value.device, dtype=value.dtype)
        return call_new_module(graph, f"{self.name}_{match.root.name}", layer, (given["input"],))

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The constants of the calibration data, or of the example without."""
        module = submodule(model, edit.site)
        fresh = [m for n, m in module.named_children() if n.startswith(self.name) and isinstance(m, MeanLength)]
        seen: dict[MeanLength, list[Tensor]] = {layer: [] for layer in fresh}
        handles = [layer.register_forward_pre_hook(partial(_note, seen)) for layer in fresh]
        try:
            with restored_modes(model), torch.no_grad():
                if not evidence.warm_start.norms:
                    return
                model.eval()
                if evidence.calibration is not None:
                    for batch in evidence.calibration:
                        call_with(model, batch)
                elif evidence.has_run(edit.site):
                    evidence.received(edit.site).call(module)
                for layer, found in seen.items():
                    if found:
                        layer.scale.copy_(torch.stack(found).mean())
        finally:
            for handle in handles:
                handle.remove()


def _note(seen: dict[MeanLength, list[Tensor]], layer: nn.Module, args: Any) -> None:
    assert isinstance(layer, MeanLength)
    seen[layer].append(layer.scale_of(args[0]))


def _kept(evidence: Evidence) -> dict[str, list[bool]]:
    """Of each module's calls: whether what they give is the model's output or does not depend on its input."""
    observation = evidence.observation()
    found: dict[str, list[bool]] = {}
    if observation is not None and any(call.function == "normalize" for call in observation.calls):
        of_data, ends = flow(observation).depends, only_returned(observation)
        for at, call in enumerate(observation.calls):
            if call.function == "normalize":
                found.setdefault(call.module, []).append(ends[at] or not of_data[at])
    return found


class _Vectors(nn.Module):
    """Normalised vectors that a layer reads, or that come out, for this file's examples."""

    def __init__(self, dim: int, p: float = 2.0, last: bool = False) -> None:
        super().__init__()
        self.layer, self.dim, self.p, self.last = nn.Conv2d(4, 4, 1), dim, p, last

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.last else F.normalize(x, self.p, self.dim)
        x = self.layer(x)
        return F.normalize(x, self.p, self.dim) if self.last else x
