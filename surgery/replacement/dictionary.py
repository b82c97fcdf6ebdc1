"""The replacement dictionary: what becomes what, in five kinds of entry, as rules in the order of their turn."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from surgery.observing.names import MODULE_NAMES, canonical
from surgery.patterns.pattern import CallPattern, Pattern
from surgery.patterns.snippet import AnyModule, any_module
from surgery.registry import rules
from surgery.replacement.entries import CallEntry, CustomEntry, Entry, ModuleEntry
from surgery.replacement.fresh import is_replacement
from surgery.replacement.pattern_entry import PatternEntry
from surgery.rule import Rule, Stage


def get_replacement_dict_default() -> dict[Any, Any]:
    """The default rules as a new dictionary, to be changed and passed on.

    A rule for one activation stands under that module type (``nn.SiLU``), every other one under its name. Taking an
    entry out switches the rule off; another value takes the rule's place, for modules of that type alone: calls such
    as ``F.silu`` take an entry of their own, and are refusals without one.
    """
    return {_default_key(rule): rule for rule in rules().values() if rule.default}


def dictionary_rules(replacement_dict: Mapping[Any, Any]) -> list[Rule]:
    """A rule for each entry, in order; but a composite before what it contains, and cleanup last.

    An entry of your own goes before the first rule of the library that is for the same layer or call; one for a class
    of modules that is not torch's before all of them.

    | key | value |
    |---|---|
    | module instance, single or composite, or a Pattern | module instance or type; for a Pattern also a function |
    | function, operator, tensor method | function (takes over the arguments), module type or instance |
    | module type, dotted name, any_module(...) | module type, instance, or factory called with a copy of the module |
    | any other key | function(model) -> model |
    | any key | a rule |

    Instances are copied for each site, types are called with the settings that they share with what they replace. The
    rules are for one surgery, or for ``replay`` of its plan.

    Raises TypeError where this is no mapping, or naming the entry where a key or value is of the wrong kind.
    """
    if not isinstance(replacement_dict, Mapping):
        raise TypeError(
            f"replacement_dict maps what is replaced to what replaces it; it is a {_kind(replacement_dict)}"
        )
    made: list[Rule] = []
    taken: Counter[str] = Counter()
    for key, value in replacement_dict.items():
        if isinstance(value, Rule):
            rule: Rule = value
        else:
            name = f"dict: {_label(key)} -> {_label(value)}"
            taken[name] += 1
            rule = _entry(key, value, name if taken[name] == 1 else f"{name} ({taken[name]})")
        later = [at for at, other in enumerate(made) if _goes_before(rule, other)]
        made.insert(min(later, default=len(made)), rule)
    for entry in made:
        if isinstance(entry, ModuleEntry):
            entry.left = entry.same_operations - {
                name for rule in made if rule.stage is not Stage.CLEANUP for name in _taken_alone(rule)
            }
    return sorted(made, key=lambda rule: rule.stage is Stage.CLEANUP)


def _goes_before(rule: Rule, other: Rule) -> bool:
    if isinstance(rule, PatternEntry) and rule.contains(other):
        return True
    return isinstance(rule, Entry) and not isinstance(other, Entry) and rule.overlaps(other)


def _taken_alone(rule: Rule) -> set[str]:
    """Operations of which a rule rewrites the calls by themselves."""
    sets = rule.pattern.alternatives if isinstance(rule, PatternEntry) else rule.operations()
    return {name for names in sets if len(names) == 1 for name in names}


def _default_key(rule: Rule) -> Any:
    kinds = [kind for kind in MODULE_NAMES if kind in rule.types]
    return kinds[0] if len(kinds) == 1 and len(rule.types) == 1 else rule.name


def _entry(key: Any, value: Any, name: str) -> Rule:
    if isinstance(key, Pattern):
        _require(name, is_replacement(value) or _is_function(value), "a module, a module type or a function")
        return PatternEntry(name, key, value)
    if isinstance(key, nn.Module):
        _require(name, is_replacement(value), "a module or a module type")
        return _instance_entry(key, value, name)
    if isinstance(key, type):
        _require(name, issubclass(key, nn.Module), "a module type as its key")
    if isinstance(key, type | AnyModule) or _is_dotted(key):
        _require(name, is_replacement(value) or _is_function(value), "a module, a module type or a factory")
        return ModuleEntry(name, key if isinstance(key, AnyModule) else any_module(key), value)
    if callable(key) or isinstance(key, CallPattern):
        own = not isinstance(key, CallPattern) and not _is_of_torch(key)
        _require(name, not own, "a function of torch as its key; for code of your own write Pattern(...) around it")
        _require(name, is_replacement(value) or _is_function(value), "a function, a module or a module type")
        return CallEntry(name, key if isinstance(key, CallPattern) else CallPattern(canonical(key)), value)
    _require(name, _is_function(value), "a function of the model")
    return CustomEntry(name, value)


def _instance_entry(key: nn.Module, value: Any, name: str) -> Rule:
    composite = next(key.children(), None) is not None
    if not composite:
        return ModuleEntry(name, any_module(type(key)), value)
    kind = None if type(key).forward is nn.Sequential.forward else type(key)
    try:
        return PatternEntry(name, Pattern(key), value, kind)
    except Exception as error:  # its forward is the user's code
        if kind is None:
            raise TypeError(f"replacement_dict entry {name!r}: its key is no pattern: {error}") from error
        return ModuleEntry(name, any_module(kind), value)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type) and not isinstance(value, nn.Module)


def _is_of_torch(function: Any) -> bool:
    """Whether calls of it are found: by their name, which is torch's or an operator's and not anybody else's."""
    held = getattr(function, "__objclass__", function)  # methods of tensors name no module
    module = getattr(held, "__module__", None) or type(getattr(held, "__self__", None)).__module__
    return module.partition(".")[0] in {"torch", "_operator", "operator", "builtins"}


def _is_dotted(key: Any) -> bool:
    return isinstance(key, str) and "." in key and all(part.isidentifier() for part in key.split("."))


def _require(name: str, holds: bool, what: str) -> None:
    if not holds:
        raise TypeError(f"replacement_dict entry {name!r} needs {what}")


def _label(value: Any) -> str:
    if isinstance(value, nn.Sequential):
        return "+".join(map(_label, value))
    if isinstance(value, str):
        return value
    if isinstance(value, AnyModule):
        return f"any_module({', '.join(map(_label, value.kinds))})"
    if isinstance(value, CallPattern):
        return ", ".join(sorted(value.names))
    if isinstance(value, type) or _is_function(value):
        return str(getattr(value, "__name__", type(value).__name__))
    return _kind(value) if isinstance(value, nn.Module | Pattern) else repr(value)


def _kind(value: Any) -> str:
    return type(value).__name__
