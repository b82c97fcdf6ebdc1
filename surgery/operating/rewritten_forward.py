"""Give a module the forward that a rule of its own kind rewrote when it proposed the edit, or rewrites again."""

from collections.abc import Callable, Mapping

from torch import nn

from surgery.observing.evidence import Evidence
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import install
from surgery.record import Edit


def install_rewritten(
    module: nn.Module, edit: Edit, evidence: Evidence, rewrite: Callable[[Traced], Mapping[str, int]]
) -> None:
    """``rewrite`` changes the graphs in place and counts the places of each, as the edit's ``rewrites`` do.

    Raises LookupError where the site is not what the edit says.
    """
    if kept := evidence.rewritten.take(edit.rule, edit.site):
        install(module, kept)
        return
    traced = evidence.traced(edit.site, edit.params["trace"])
    if isinstance(traced, Untraceable):
        raise LookupError(f"{edit.site} cannot be traced: {traced.reason}")
    counts = rewrite(traced)
    if counts != edit.params["rewrites"]:
        raise LookupError(f"{edit.site}: rule {edit.rule} finds {counts}, the plan says {edit.params['rewrites']}")
    install(module, traced)
