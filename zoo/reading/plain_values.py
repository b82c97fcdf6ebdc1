"""What an unquoted YAML value means, where YAML 1.1 and YAML 1.2 agree; else why it is refused and what to write.

PyYAML reads YAML 1.1, editors and other tools read 1.2. A recipe must not mean two things, so a value that they read
differently is refused: ``yes`` (boolean or text), ``4e-5`` (text or number), ``1:30`` (90 or text), ``010`` (8 or 10).
"""

import re
from functools import lru_cache
from math import isfinite

import yaml

Value = None | bool | int | float | str

LARGEST = 2**63 - 1  # what JSON readers and tensors can hold

# The core schema of YAML 1.2 (section 10.3.2).
CORE_1_2 = (
    ("null", re.compile(r"~|null|Null|NULL|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("int", re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)
LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
EXPONENT = re.compile(r"([-+]?)([0-9]*)\.?([0-9]*)[eE]([-+]?[0-9]+)")


class Refused(ValueError):
    """A plain value that cannot be used: ``fact`` and ``cure``."""

    def __init__(self, fact: str, cure: str) -> None:
        super().__init__(fact)
        self.fact, self.cure = fact, cure


@lru_cache(maxsize=4096)  # recipes repeat the same few values
def read(text: str) -> Value:
    """The value of an unquoted scalar.

    Raises Refused where the two versions of YAML differ or the number cannot be held.
    """
    kind = _kind_1_2(text)
    old = _kind_1_1(text)
    if kind != old or LEADING_ZERO.fullmatch(text):
        raise _disagreement(text, kind, old)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float"):
        return _number(text, kind)
    return text


def _kind_1_2(text: str) -> str:
    return next((kind for kind, pattern in CORE_1_2 if pattern.fullmatch(text)), "str")


def _kind_1_1(text: str) -> str:
    """As PyYAML resolves it; its table is keyed by the first character."""
    table = yaml.SafeLoader.yaml_implicit_resolvers
    candidates = [*table.get(text[:1], ()), *table.get(None, ())]
    return next((tag.rpartition(":")[2] for tag, pattern in candidates if pattern.match(text)), "str")


def _number(text: str, kind: str) -> int | float:
    digits_needed = 20
    value = (int(text, 0) if len(text) <= digits_needed else LARGEST + 1) if kind == "int" else _float(text)
    if isinstance(value, float) and not isfinite(value):
        raise Refused(f"{text[:20]} is not a finite number", "write a finite one")
    if abs(value) > LARGEST and kind == "int":
        raise Refused("the number is too large", "use at most 18 digits")
    return value


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan") if "n" in text.lower() else text)


def _disagreement(text: str, new: str, old: str) -> Refused:
    short = text if len(text) <= 40 else text[:37] + "..."
    if old == "bool":
        meant = "true" if text.lower() in ("yes", "on", "y") else "false"
        return Refused(f"YAML reads {short} as {meant}", f'write {meant}, or "{short}" if text is meant')
    if new == "float" and (parts := EXPONENT.fullmatch(text)):
        sign, whole, fraction, power = parts.groups()
        number = f"{sign}{whole or 0}.{fraction or 0}e{power if power[0] in '+-' else '+' + power}"
        return Refused(f"YAML reads {short} as text, not as a number", f"write {number}")
    if old == "timestamp":
        return Refused(f"YAML reads {short} as a date", f'write "{short}"')
    if text == "<<":
        return Refused("merge keys are not supported", "write the fields out")
    number = "a decimal number without leading zeros, colons or underscores"
    return Refused(f"versions of YAML read {short} differently", f'write {number}, or "{short}" if text is meant')
