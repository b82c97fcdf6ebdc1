"""Evidence for surgery on modules alone: what a run shows, and no forward traced."""

from weakref import WeakKeyDictionary

from surgery.observing.evidence import Evidence
from surgery.observing.trace import Traced, Untraceable

REASON = "tracing was switched off"


class Untraced(Evidence):
    """All that another evidence knows and notes, shared with it, but ``traced`` gives the reason why nothing is."""

    def __init__(self, evidence: Evidence) -> None:
        self.__dict__ = vars(evidence)

    def traced(self, name: str, method: str | None = None) -> Traced | Untraceable:
        """Never a graph."""
        return Untraceable(REASON)


_made: WeakKeyDictionary[Evidence, Untraced] = WeakKeyDictionary()


def untraced(evidence: Evidence) -> Untraced:
    """The one view of an evidence that traces nothing: rules keep what they found by the evidence they found it in."""
    if evidence not in _made:
        _made[evidence] = Untraced(evidence)
    return _made[evidence]
