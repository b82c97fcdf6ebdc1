"""Layers that are one call of one function, whether written as a module or as the call."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from surgery.observing.attribute_reads import missed
from surgery.observing.evidence import Evidence
from surgery.observing.names import as_its_class, of_node
from surgery.observing.shapes import example
from surgery.observing.trace import Traced
from surgery.operating.rewrite import call_new_module, new_modules, put_in_place
from surgery.record import Edit, Refusal
from surgery.rule import Rewrites, Rule, replace_module, submodule


@dataclass(frozen=True)
class Seen:
    """What a layer received and returned in the example run: shapes, and the dtype's name."""

    input: tuple[int, ...]
    output: tuple[int, ...]
    dtype: str
    constant: bool = False  # what it received does not depend on the model's input

    @classmethod
    def of(cls, received: Any, returned: Any, constant: bool = False) -> "Seen | None":
        """None where either is not known to be a tensor."""
        if not isinstance(received, Tensor) or not isinstance(returned, Tensor):
            return None
        dtype = str(received.dtype).removeprefix("torch.")
        return cls(tuple(received.shape), tuple(returned.shape), dtype, constant)

    def like(self) -> Tensor:
        """An empty tensor of that dtype."""
        return torch.empty(0, dtype=getattr(torch, self.dtype))


class OneCallRule(Rule):
    """Replaces each such layer by a module; the same decision for modules and calls."""

    functions: ClassVar[tuple[str, ...]]  # canonical names of the function
    runtime: ClassVar[tuple[str, ...]] = ()  # arguments that the new module receives when it runs

    def parse(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """The settings of a call, its arguments being those of the function."""
        raise NotImplementedError

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """The function's arguments that a module stands for; None where it is another layer."""
        raise NotImplementedError

    def new(self, settings: Any, seen: Seen | None) -> nn.Module | str | None:
        """What takes the layer's place: nothing where it is fine as it is, or the reason why it must stay."""
        raise NotImplementedError

    def matches(self, module: nn.Module) -> bool:
        """Whether it is such a layer, needing a change or not."""
        return self.arguments(module) is not None

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Raises LookupError where the module is not one to replace."""
        made = self._for_module(module, _seen(params.get("seen")))
        if not isinstance(made, nn.Module):
            raise LookupError(f"rule {self.name} leaves this {type(module).__name__} as it is")
        return made

    def _for_module(self, module: nn.Module, seen: Seen | None) -> nn.Module | str | None:
        return self.new(self.parse(None, **(self.arguments(module) or {})), seen)

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Calls in modules' own forward, then modules that are such a call."""
        for name, calls in self._callers(evidence).items():
            yield from self.propose_in(name, calls, evidence)
        for name, module in evidence.modules():
            if self.matches(module):
                yield from self._propose_module(module, name, evidence)
            elif self.matched_before(module) and any(self._propose_module(as_its_class(module), name, evidence)):
                yield self.own_forward(name)

    def _propose_module(self, module: nn.Module, name: str, evidence: Evidence) -> Iterator[Edit | Refusal]:
        run = evidence.run(name)
        received = None if run is None else next(iter([*run.args, *run.kwargs.values()]), None)
        seen = Seen.of(received, None if run is None else run.output)
        made = self._for_module(module, seen)
        if made is not None and not name:
            yield Refusal(self.name, name, "the model itself is this layer; put it into a Sequential")
        elif isinstance(made, str):
            yield Refusal(self.name, name, made)
        elif made is not None:
            if reason := missed(evidence.model, name, module, made, evidence.has_run(name)):
                yield Refusal(self.name, name, reason)
                return
            params = {} if seen is None else {"seen": asdict(seen)}
            yield self.edit(name, f"{type(module).__name__} -> {_described(made)}", params)

    def _callers(self, evidence: Evidence) -> dict[str, set[str]]:
        """Modules whose own forward makes such calls; where the model was run, only those that need a change."""
        modules = dict(evidence.modules())
        found = evidence.own_calls(self.operations())
        return {
            name: calls
            for name, calls in found.items()
            if not self.matches(modules[name]) and (evidence.example is None or self._is_concerned(name, evidence))
        }

    def _is_concerned(self, name: str, evidence: Evidence) -> bool:
        for call in evidence.calls(name):
            if call.function in self.functions:
                bound = signature(self.parse).bind(*call.args, **call.kwargs).arguments
                parsed = self.parse(*call.args, **call.kwargs)
                maybe = [Seen.of(bound["input"], call.output, constant) for constant in (False, True)]
                if any(self.new(parsed, seen) is not None for seen in maybe):
                    return True
        return False

    def action(self, traced: Traced) -> str:
        """The function, and what takes its calls' place."""
        made = dict.fromkeys(map(_described, new_modules(traced.evaluate).values()))
        return f"{', '.join(self.functions)} -> {', '.join(made)}"

    def operations(self) -> tuple[frozenset[str], ...]:
        """Any of the function's names."""
        return tuple(frozenset([name]) for name in self.functions)

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """Each call becomes a call of a new child module."""
        count, declined = 0, []
        for node in list(graph.nodes):
            if node.op not in {"call_function", "call_method"} or of_node(node) not in self.functions:
                continue
            made = self._for_node(node)
            if isinstance(made, str):
                declined.append(made)
            elif made is not None:
                bound = signature(self.parse).bind(*node.args, **node.kwargs).arguments
                args = tuple(bound.get(name) for name in ("input", *self.runtime))
                if isinstance(received := example(args[0]), Tensor):
                    made.to(received.device)
                with graph.inserting_after(node):
                    new = call_new_module(graph, f"{self.name}_{node.name}", made, args)
                put_in_place(node, new, tuple(node.all_input_nodes))
                count += 1
        return Rewrites(count, tuple(declined))

    def _for_node(self, node: fx.Node) -> nn.Module | str | None:
        bound = signature(self.parse).bind(*node.args, **node.kwargs).arguments
        settings = {name: value for name, value in bound.items() if name != "input"}
        known = fx.node.map_arg(settings, example)
        if _has_none(settings, known):
            return f"the arguments of {node.name} are not known without a run on example inputs"
        source = bound["input"]
        constant = isinstance(source, fx.Node) and not _reads_input(source)
        made = self.new(self.parse(None, **known), Seen.of(example(source), example(node), constant))
        fixed = {name: value for name, value in settings.items() if name not in self.runtime}
        if isinstance(made, nn.Module) and (changing := [name for name, value in fixed.items() if _nodes(value)]):
            return f"{', '.join(changing)} of {node.name} is computed when the model runs"
        return made

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Make one edit in place; a new module's constants go where the model's parameters are."""
        if "rewrites" in edit.params:
            super().apply(model, edit, evidence)
            return
        module = submodule(model, edit.site)
        if not self.matches(module):
            raise LookupError(f"{edit.site} is a {type(module).__name__}, not what rule {self.name} replaces")
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        replace_module(model, module, self.replacement(module, edit.params).to(device))


def _seen(params: Mapping[str, Any] | None) -> Seen | None:
    if params is None:
        return None
    return Seen(tuple(params["input"]), tuple(params["output"]), params["dtype"], params["constant"])


def _nodes(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def _has_none(given: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return any(example(node) is None for value in given.values() for node in _nodes(value))


def _reads_input(node: fx.Node) -> bool:
    todo, done = [node], set()
    while todo:
        current = todo.pop()
        if current.op in {"placeholder", "call_module"}:
            return True
        done.add(current)
        todo += [other for other in current.all_input_nodes if other not in done]
    return False


def _described(module: nn.Module) -> str:
    parts = [type(part).__name__ for part in (module if isinstance(module, nn.Sequential) else [module])]
    return " + ".join(parts)
