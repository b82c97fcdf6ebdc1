"""How values go from call to call in one forward of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from surgery.observing.observe import Call, Observation, tensors, token

# Calls that hand on values as they are, in another shape.
VIEWS = frozenset(
    [
        *("view", "reshape", "expand", "expand_as", "unsqueeze", "squeeze", "permute", "transpose", "flatten", "clone"),
        *("contiguous", "to", "type_as", "float", "chunk", "split", "getitem", "unflatten", "movedim"),
    ]
)
# Calls that read nothing of a tensor but its shape.
_SHAPE_ONLY = frozenset(
    [
        *("new_empty", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "empty_like", "full_like"),
        *("rand_like", "randn_like", "size", "dim"),
    ]
)
# Calls that only move values around.
MOVES = frozenset(
    [
        *("view", "reshape", "permute", "transpose", "t", "getitem", "cat", "concat", "stack", "split", "unbind"),
        *("chunk", "unsqueeze", "squeeze", "clone", "expand", "detach", "flatten", "contiguous", "to", "unflatten"),
        *("movedim", "swapaxes", "float", "select", "narrow", "identity"),
    ]
)


@dataclass(frozen=True)
class Flow:
    """Of each call: which calls made what it reads, and whether its value depends on the model's input."""

    calls: Sequence[Call]
    sources: Sequence[dict[int, int]]
    depends: Sequence[bool]

    def back(self, call: int, tensor: Tensor, skip: frozenset[str]) -> int | None:
        """The call that computed a tensor which ``call`` reads, past those in ``skip``."""
        at = self.sources[call].get(token(tensor))
        while at is not None and self.calls[at].function in skip:
            sources = self.sources[at]
            at = next((sources[name] for name in self.calls[at].inputs if name in sources), None)
        return at

    def branch(self, call: int, tensor: Tensor, stop: Tensor, layers: frozenset[str]) -> set[str]:
        """Functions on the way to a tensor, back to ``stop``, to maps as large as it, and not past ``layers``."""
        found: set[str] = set()
        todo, done = [self.sources[call].get(token(tensor))], set()
        while todo:
            at = todo.pop()
            if at is None or at in done:
                continue
            done.add(at)
            found.add(self.calls[at].function)
            if self.calls[at].function in layers:
                continue
            read = tensors([self.calls[at].args, dict(self.calls[at].kwargs)])
            todo += [self.sources[at].get(token(t)) for t in read if t is not stop and t.numel() <= tensor.numel()]
        return found


def flow(observation: Observation) -> Flow:
    """Of all calls of one forward."""
    root = observation.runs.get("")
    given = {token(tensor) for tensor in tensors([root.args, dict(root.kwargs)])} if root else set()
    made: dict[int, int] = {}
    sources: list[dict[int, int]] = []
    depends: list[bool] = []
    for at, call in enumerate(observation.calls):
        sources.append({name: made[name] for name in call.inputs if name in made})
        fed = any(name in given or (name in made and depends[made[name]]) for name in call.inputs)
        depends.append(fed and call.function not in _SHAPE_ONLY)
        made |= dict.fromkeys(call.outputs, at)
    return Flow(observation.calls, sources, depends)


def only_returned(observation: Observation) -> list[bool]:
    """For each call, whether its value is part of the model's outputs and is otherwise only moved on the way there."""
    readers: list[list[int]] = [[] for _ in observation.calls]
    maker: dict[int, int] = {}
    for at, call in enumerate(observation.calls):
        for name in {maker[tensor] for tensor in call.inputs if tensor in maker}:
            readers[name].append(at)
        maker |= dict.fromkeys(call.outputs, at)
    returned = {maker[token(tensor)] for tensor in tensors(observation.output) if token(tensor) in maker}
    ends = [False] * len(observation.calls)
    for at in reversed(range(len(observation.calls))):  # readers come later
        moved = all(observation.calls[reader].function in MOVES and ends[reader] for reader in readers[at])
        ends[at] = moved and bool(readers[at] or at in returned)
    return ends
