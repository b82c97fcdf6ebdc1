"""Progressive replacement: activations turn from the source's into ReLU over the first iterations of a training.

x -> (1 - a) f(x) + a relu(x), a growing linearly from 0 to 1. The ReLU stays where surgery put it, and a forward hook
mixes what it gives: the tree of modules, the state_dict and the fingerprint are the plan's all the time.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmengine.hooks import Hook
from torch import Tensor, nn

import surgery

SUFFIX = "_to_relu"  # of the rules whose edits are annealed


@dataclass
class Annealing(Hook):  # type: ignore[misc]  # mmengine has no types
    """Sets ``share``, the a of all activations, from the iteration alone: a resumed training is the same."""

    epochs: float  # after which it is 1
    originals: Mapping[str, nn.Module]  # the source's activations by site, frozen; to be annealed
    left: Mapping[str, str]  # sites of other activations that became ReLU, and why they are not annealed
    share: float = 0.0

    priority = "HIGH"  # before what evaluates after an epoch

    def to_json(self) -> dict[str, Any]:
        """What was annealed and what was not, for the training's metrics."""
        return {"epochs": self.epochs, "annealed": list(self.originals), "left": dict(self.left)}

    def before_train(self, runner: Any) -> None:
        for original in self.originals.values():
            original.to(next(runner.model.parameters()).device)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._advance(runner)

    def after_train_epoch(self, runner: Any) -> None:
        self._advance(runner)

    def after_train(self, runner: Any) -> None:
        self._advance(runner)  # of a training that was killed after its last epoch nothing is left to run

    def _advance(self, runner: Any) -> None:
        self.share = share(runner.iter, round(self.epochs * len(runner.train_dataloader)))


def share(iteration: int, length: int) -> float:
    """The a of an iteration (from 0), and of what is evaluated after as many: 1, exactly, from ``length`` on."""
    return iteration / length if iteration < length else 1.0


@contextmanager
def annealed(lite: nn.Module, source: nn.Module, edits: Sequence[surgery.Edit], epochs: float) -> Iterator[Annealing]:
    """While this lasts, the activations of ``lite`` that the edits made ReLU are mixed with those of ``source``.

    The hook that is given is for the runner of the training; without it they are the source's. Copies of the model made
    meanwhile share its a. What cannot be annealed is in ``left``. An activation with weights, as PReLU, keeps the
    source's. Afterwards, after an exception too, the model is as it was.
    """
    originals, left = _sorted(lite, source, edits)
    annealing = Annealing(epochs, originals, left)
    handles = [
        lite.get_submodule(site).register_forward_hook(_Mixture(original, annealing))
        for site, original in originals.items()
    ]
    try:
        yield annealing
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, eq=False)
class _Mixture:
    """A forward hook of a ReLU."""

    original: nn.Module
    annealing: Annealing = field(repr=False)

    def __call__(self, relu: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        replaced = self.annealing.share
        if replaced == 1:
            return output
        mixed: Tensor = (1 - replaced) * self.original(inputs[0]) + replaced * output
        return mixed

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Mixture":
        return self  # of a copy of the model, such as its moving average: at the same a


def _sorted(
    lite: nn.Module, source: nn.Module, edits: Sequence[surgery.Edit]
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Activations to be annealed, and why others are not."""
    originals: dict[str, nn.Module] = {}
    left: dict[str, str] = {}
    for edit in edits:
        if not edit.rule.endswith(SUFFIX):
            continue
        original, replacement = _at(source, edit.site), _at(lite, edit.site)
        if "rewrites" in edit.params:
            left[edit.site] = "it is a call in the forward of this module"
        elif type(replacement) is not nn.ReLU or replacement.inplace:
            left[edit.site] = f"it is {_kind(replacement)} in the lite model"
        elif original is None or not surgery.rules()[edit.rule].matches(original):
            left[edit.site] = f"it is {_kind(original)} in the source"
        else:
            originals[edit.site] = _frozen(original)
    return originals, left


def _at(model: nn.Module, site: str) -> nn.Module | None:
    try:
        return model.get_submodule(site)
    except AttributeError:
        return None


def _kind(module: nn.Module | None) -> str:
    return "not there" if module is None else f"a {type(module).__name__}"


def _frozen(activation: nn.Module) -> nn.Module:
    """A copy that does not overwrite its input, which ReLU reads too."""
    frozen = copy.deepcopy(activation).eval().requires_grad_(False)
    if "inplace" in vars(frozen):
        vars(frozen)["inplace"] = False
    return frozen
