"""Names and numbers inside one target that must agree: devices, operators and their attributes, patterns, opsets."""

from collections.abc import Iterator

from zoo.errors import Problem, did_you_mean
from zoo.reading import registry
from zoo.reading.document import Document, Location, shown
from zoo.targets.limit import Limit
from zoo.targets.limits.attribute import AttributeIn, AttributeNotIn
from zoo.targets.onnx_names import ATTRIBUTES
from zoo.targets.target import Target
from zoo.targets.wording import either

OPERATORS_PAGE = "https://onnx.ai/onnx/operators/"


def problems(document: Document, target: Target) -> Iterator[Problem]:
    """Whatever one part of a whole target says of another that is not so."""
    yield from _of_opset(document, target)
    yield from _of_operators(document, target)
    yield from _of_patterns(document, target)
    yield from _of_limits(document, target)
    yield from _of_devices(document, target)


def _of_opset(document: Document, target: Target) -> Iterator[Problem]:
    if target.opset.export > target.opset.max:
        fact = f"{target.opset.export}, but the device reads up to {target.opset.max}"
        yield document.problem(("opset", "export"), fact, "lower it")


def _of_operators(document: Document, target: Target) -> Iterator[Problem]:
    """Operators and attributes that ONNX does not have: nothing would ever break such a limit."""
    entries = document.data["operators"]
    for name, operator in target.operators.items():
        if name not in ATTRIBUTES:
            cure = did_you_mean(name, ATTRIBUTES) or f"see {OPERATORS_PAGE}"
            yield document.problem(("operators", name), f"ONNX has no operator '{shown(name)}'", cure)
            continue
        sharing = [other for other in entries if entries[other] is entries[name] and other in ATTRIBUTES]
        known = frozenset().union(*(ATTRIBUTES[other] for other in sharing))
        for index, limit in enumerate(operator.limits):
            for field, attribute in _attributes(limit):
                if attribute not in known:
                    place = ("operators", name, "limits", index, field, attribute)
                    fact = f"{either(sharing)} has no attribute '{shown(attribute)}'"
                    cure = did_you_mean(attribute, known) or f"see {OPERATORS_PAGE}"
                    yield document.problem(place, fact, cure)


def _attributes(limit: Limit) -> Iterator[tuple[str, str]]:
    """The attributes that a limit names, each with the field that it stands in."""
    if isinstance(limit, AttributeIn):
        yield from (("allowed", name) for name in limit.allowed)
    elif isinstance(limit, AttributeNotIn):
        yield from (("forbidden", name) for name in limit.forbidden)


def _of_patterns(document: Document, target: Target) -> Iterator[Problem]:
    known = registry.modules("zoo.linting.patterns")
    for name in target.patterns:
        if name not in known:
            yield document.problem(("patterns", name), f"unknown pattern '{shown(name)}'", did_you_mean(name, known))


def _of_limits(document: Document, target: Target) -> Iterator[Problem]:
    for part, entries in (("operators", target.operators), ("patterns", target.patterns)):
        for name, operator in entries.items():
            for index, limit in enumerate(operator.limits):
                for position, device in enumerate(limit.devices):
                    if device not in target.devices:
                        place = (part, name, "limits", index, "devices", position)
                        cure = did_you_mean(device, target.devices) or "add it to 'devices'"
                        yield document.problem(place, f"unknown device '{shown(device)}'", cure)


def _of_devices(document: Document, target: Target) -> Iterator[Problem]:
    listed = {*target.operators, *target.patterns}
    taken = {name: name for name in target.devices}
    for own, device in target.devices.items():
        for index, alias in enumerate(device.aliases):
            if (other := taken.setdefault(alias, own)) != own or alias == own:
                fact = f"'{shown(alias)}' is taken by {shown(other)}"
                yield document.problem(("devices", own, "aliases", index), fact, "remove one")
        named: list[tuple[Location, str]] = [
            *((("not_accelerated", index), name) for index, name in enumerate(device.not_accelerated)),
            *((("costly", name), name) for name in device.costly),
        ]
        for place, name in named:
            if name not in listed:
                fact = f"the target lists no '{shown(name)}'"
                yield document.problem(("devices", own, *place), fact, did_you_mean(name, listed) or "remove it")
