"""From a document to a pydantic model, or to problems that name the line, the fact and the cure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zoo.errors import InvalidInput, Problem, did_you_mean
from zoo.reading.document import Document, Location, shown

Model = TypeVar("Model", bound=BaseModel)

EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "too_short": "a longer list",
    "too_long": "a shorter list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
NAME_CURE = "a name is letters, digits, '.', '_' and '-', and begins with a letter or digit"


def validate(document: Document, model: type[Model]) -> Model:
    """Make a model of a document.

    Raises InvalidInput holding every problem.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems = _problems(document, model, error.errors(include_url=False))
    raise InvalidInput(problems)


def _problems(document: Document, model: type[BaseModel], errors: Iterable[ErrorDetails]) -> list[Problem]:
    """One problem for each place: the branches of a union report separately, and belong together."""
    places: dict[Location, list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_location(document, error), []).append(error)
    branched = {place for place, found in places.items() if any(len(error["loc"]) > len(place) for error in found)}
    problems = []
    for place, found in places.items():
        if place in branched and any(other[: len(place)] == place and other != place for other in places):
            continue  # another branch of this union got further, and its problem is the real one
        problems.append(_problem(document, model, place, found))
    return problems


def _location(document: Document, error: ErrorDetails) -> Location:
    """The part of an error's location that is in the file, without the union branches pydantic adds."""
    location: Location = ()
    for part in error["loc"]:
        if (*location, part) in document.lines or (error["type"] == "missing" and part == error["loc"][-1]):
            location = (*location, part)
    return location


def _problem(document: Document, model: type[BaseModel], place: Location, found: list[ErrorDetails]) -> Problem:
    error = found[0]
    kind, given = error["type"], error["input"]
    if kind == "missing" and isinstance(place[-1], int):
        return document.problem(place[:-1], f"item {place[-1] + 1} is missing", "add it")
    if kind == "missing":
        return document.problem(place, "required field is missing", f"add '{place[-1]}: ...'")
    if kind == "extra_forbidden":
        return document.problem(place, "unknown field", did_you_mean(str(place[-1]), _fields(model, error["loc"][:-1])))
    if kind == "union_tag_not_found":
        return document.problem(place, "required field is missing", f"add '{_tag(error)}: ...'")
    if kind in ("union_tag_invalid", "unknown_kind"):
        return _unknown_tag(document, place, error)
    if kind == "value_error":
        return document.problem(place, f"{error['ctx']['error']}")
    if kind == "string_pattern_mismatch" and not given.strip():
        return document.problem(place, "has no text", "write some")
    if kind == "string_pattern_mismatch":
        return document.problem(place, f"'{shown(given)}' is not a name", NAME_CURE)
    wanted = " or ".join(dict.fromkeys(_wanted(each) for each in found))
    return document.problem(place, f"should be {wanted}, not {_described(given)}", _cure(found, given))


def _unknown_tag(document: Document, place: Location, error: ErrorDetails) -> Problem:
    tag = given.get(_tag(error)) if isinstance(given := error["input"], Mapping) else given
    cure = error["ctx"].get("cure") or did_you_mean(str(tag), _quoted(error["ctx"].get("expected_tags", "")))
    return document.problem((*place, _tag(error)), f"there is no '{shown(tag)}'", cure)


def _tag(error: ErrorDetails) -> str:
    """The field that decides which branch of a union a mapping is."""
    return str(error.get("ctx", {}).get("discriminator", "kind")).strip("'")


def _wanted(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    if error["type"] in EXPECTED:
        return EXPECTED[error["type"]]
    return re.sub(r"^(Input|String|Tuple|Value) should (be|have) ", "", error["msg"]).lower()


def _described(given: Any) -> str:
    if given is None:
        return "empty"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return f"'{shown(given)}'"
    if isinstance(given, Mapping):
        return "a mapping"
    if isinstance(given, list | tuple):
        return f"a list of {len(given)}"
    return f"{given}"


def _cure(found: list[ErrorDetails], given: Any) -> str:
    kinds = {error["type"] for error in found}
    if given is None:
        return "remove the field or give it a value"
    if "literal_error" in kinds and isinstance(given, str):
        nearest = _nearest(given, [error["ctx"]["expected"] for error in found if error["type"] == "literal_error"])
        return nearest or (f"write [{shown(given)}]" if "tuple_type" in kinds else "")
    if "string_type" in kinds and isinstance(given, bool | int | float):
        return f'write "{_described(given)}"'
    if kinds & {"int_type", "float_type"} and isinstance(given, str) and re.fullmatch(r"[-+]?[\d.]+", given):
        return "remove the quotes"
    return ""


def _nearest(given: str, expected: list[str]) -> str:
    cure = did_you_mean(given, _quoted(" ".join(expected)))
    return cure if cure.startswith("did") else ""  # the fact lists the choices already


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """Field names of the model at a location as pydantic gives it, where the kind of a union's branch is a part."""
    current = [model]
    for part in location:
        inner = [each.model_fields[str(part)].annotation for each in current if part in each.model_fields]
        named = [each for each in current if part in _kinds(each)]
        current = list(_models(inner)) if inner else named or current
    return list(current[0].model_fields) if current else []


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _models(annotations: Iterable[Any]) -> Iterable[type[BaseModel]]:
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        else:
            yield from _models(get_args(annotation))
