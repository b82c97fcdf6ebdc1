"""Parameters that several layers hold: an edit of one layer must not part them."""

from torch import nn

from surgery.observing.evidence import Evidence


def tied_parameters(evidence: Evidence, module: nn.Module) -> dict[str, str]:
    """The module's own parameters that another module holds too, each with the name of one such module."""
    own = {id(parameter): key for key, parameter in module._parameters.items() if parameter is not None}
    found: dict[str, str] = {}
    if own:
        for name, other in evidence.modules():
            for parameter in other._parameters.values() if other is not module else ():
                if (key := own.get(id(parameter))) is not None:
                    found.setdefault(key, name)
    return found


def tied_to(evidence: Evidence, module: nn.Module) -> str | None:
    """Why a layer that would get parameters of its own has to stay: one of its is that of another module."""
    for key, other in tied_parameters(evidence, module).items():
        return f"its {key} is tied to that of {other}"
    return None
