"""What can be wrong with a lite model, found before it is trained: each check returns findings that name the layer."""

from dataclasses import dataclass

from zoo.targets.limit import Severity


@dataclass(frozen=True)
class Finding:
    """One thing wrong. ``layer`` is the module's qualified name; "" is the model itself."""

    check: str
    severity: Severity
    layer: str
    fact: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.layer or 'the model'}: {self.fact}" + (f"; {self.cure}" if self.cure else "")
