"""Surgery by a replacement dictionary, under the names of the method's publication."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from surgery.engine import apply_rules
from surgery.observing.untraced import REASON, untraced
from surgery.operating.example import Example
from surgery.record import Edit, Report
from surgery.registry import rules
from surgery.replacement.dictionary import dictionary_rules, get_replacement_dict_default
from surgery.replacement.entries import Entry
from surgery.replacement.in_graph import applied_to_graph
from surgery.replacement.whole_graph import whole_graph
from surgery.rule import Rule


@dataclass(frozen=True)
class DictionaryReport(Report):
    """What surgery by a dictionary did and declined; the result carries it as ``surgery_report``."""

    unmatched: tuple[str, ...] = ()  # entries that edited nothing, by the rule's name
    not_traced: str | None = None  # why the result is no GraphModule, but the model's own class; None: it is one
    in_graph: tuple[Edit, ...] = ()  # made in the GraphModule after tracing: not in the plan, so not replayed

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Those of the plan, then those in the graph."""
        return (*self.plan.edits, *self.in_graph)

    @property
    def is_lite(self) -> bool:
        """Whether anything was edited at all."""
        return bool(self.edits)

    def to_json(self) -> dict[str, Any]:
        """With these two as well."""
        return {**super().to_json(), "unmatched": list(self.unmatched), "not_traced": self.not_traced}


def replace_unsupported_layers(
    model: nn.Module,
    replacement_dict: Mapping[Any, Any] | None = None,
    example_inputs: Any = None,
    calibration: Iterable[Tensor] | None = None,
    trace: bool = True,
) -> nn.Module:
    """A copy of the model with layers replaced as the dictionary says; None: as the default one does.

    What a dictionary may hold: see ``dictionary_rules``. The result is a torch.fx.GraphModule where the whole model can
    be traced, otherwise the model's own class with what could be traced replaced where it stands;
    ``result.surgery_report`` (DictionaryReport) tells which and why, and what was edited, declined and not found. With
    ``trace=False`` no forward is traced: modules and chains of them in a Sequential are replaced, custom functions run,
    the model keeps its class, and calls that a rule or an entry would rewrite are refusals.
    Without example inputs the entries are applied once more to the finished graph, which may hold calls that could not
    be found before; such edits are ``in_graph`` of the report, and not in its plan.
    ``example_inputs`` and ``calibration`` are those of ``surgery.lite``; without inputs no replacement is checked.

    An entry that matches nothing is reported; one that is not of the default dictionary is also a UserWarning.

    Raises TypeError where a key or value of the dictionary is of the wrong kind, SurgeryError as ``surgery.lite`` does.
    """
    entries = get_replacement_dict_default() if replacement_dict is None else replacement_dict
    wanted = dictionary_rules(entries)
    batches = list(calibration) if isinstance(calibration, Iterator) else calibration  # read more than once
    chosen = wanted if trace else [_without_tracing(rule) for rule in wanted]
    result, report = apply_rules(model, chosen, False, example_inputs, batches)
    graph = whole_graph(result, Example.of(example_inputs)) if trace else REASON
    in_graph: tuple[Edit, ...] = ()
    if not isinstance(graph, str):
        result = graph
        if example_inputs is None:
            result, in_graph, left = applied_to_graph(graph, wanted, report, batches)
            report = replace(report, refusals=left)
    done = {edit.rule for edit in (*report.edits, *in_graph)}
    unmatched = tuple(rule.name for rule in wanted if rule.name not in done)
    _warn_of_own([rule for rule in wanted if rule.name in unmatched], report)
    reason = graph if isinstance(graph, str) else None
    of_engine = {item.name: getattr(report, item.name) for item in fields(Report)}
    result.surgery_report = DictionaryReport(**of_engine, unmatched=unmatched, not_traced=reason, in_graph=in_graph)  # type: ignore[assignment]
    return result


def convert_to_lite_fx(
    model: nn.Module,
    replacement_dict: Mapping[Any, Any] | None = None,
    example_inputs: Any = None,
    calibration: Iterable[Tensor] | None = None,
    trace: bool = True,
) -> nn.Module:
    """``replace_unsupported_layers`` under the name of the step that it is in a training script."""
    return replace_unsupported_layers(model, replacement_dict, example_inputs, calibration, trace)


class SurgeryModule(nn.Module):
    """A model after ``replace_unsupported_layers``, with the dictionary it was made with."""

    def __init__(
        self,
        model: nn.Module,
        replacement_dict: Mapping[Any, Any] | None = None,
        example_inputs: Any = None,
        calibration: Iterable[Tensor] | None = None,
        trace: bool = True,
    ) -> None:
        super().__init__()
        self.replacement_dict = dict(get_replacement_dict_default() if replacement_dict is None else replacement_dict)
        self.module = replace_unsupported_layers(model, self.replacement_dict, example_inputs, calibration, trace)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the lite model returns."""
        return self.module(*args, **kwargs)

    def get_replacement_dict(self) -> dict[Any, Any]:
        """The dictionary, as a copy."""
        return dict(self.replacement_dict)

    def __getstate__(self) -> dict[str, Any]:
        """Rules of the library by their names: patterns are written as lambdas, which no file can hold."""
        known = {id(rule): _Named(name) for name, rule in rules().items()}
        named = {key: known.get(id(value), value) for key, value in self.replacement_dict.items()}
        return {**vars(self), "replacement_dict": named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        entries = {k: rules()[v.name] if isinstance(v, _Named) else v for k, v in state["replacement_dict"].items()}
        super().__setstate__({**state, "replacement_dict": entries})  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Named:
    """Stands for a rule of the library in a file."""

    name: str


def _without_tracing(rule: Rule) -> Rule:
    """The same rule, to which no forward can be traced."""
    blind = copy(rule)
    blind.propose = lambda model, evidence: rule.propose(model, untraced(evidence))  # type: ignore[method-assign]
    blind.apply = lambda model, edit, evidence: rule.apply(model, edit, untraced(evidence))  # type: ignore[method-assign]
    return blind


def _warn_of_own(unmatched: list[Rule], report: Report) -> None:
    for rule in unmatched:
        if isinstance(rule, Entry):
            why = next((f"{r.site or 'the model'}: {r.reason}" for r in report.refusals if r.rule == rule.name), None)
            warnings.warn(f"{rule.name}: {why or 'it matches nothing in this model'}", UserWarning, stacklevel=3)
