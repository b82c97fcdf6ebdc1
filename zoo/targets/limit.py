"""What a limit is: a condition on a node that a device puts on an operator it accelerates."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from zoo.config import Config, Name
from zoo.graph.view import MISFIT, Node, NotKnown

Severity = Literal["error", "warning", "cost"]


class Limit(Config):
    """One condition, known by its ``kind``; a module of zoo.targets.limits holds the kinds of one topic.

    A subclass narrows ``kind`` to a literal of its own, adds what it compares with, and says in ``found`` what breaks
    it. ``error``: the device does not accelerate the node. ``warning``: its maker has not validated it. ``cost``: it
    runs, but slowly or less exactly.
    """

    model_config = ConfigDict(defer_build=True)  # once, in the target that holds it: by itself it is rarely made

    kind: str
    severity: Severity = "error"
    devices: Annotated[tuple[Name, ...], Field(strict=False)] = ()  # where it holds; none: on all of the target's
    note: str = ""  # for people: what the source's text says, where these fields do not say all of it

    def broken(self, node: Node) -> str | None:
        """The limit and the value found, in words, where the node breaks it: "kernel 7x7, at most 5x5".

        Raises NotKnown where the file does not tell, and where the node is not what ONNX says such a node is.
        """
        try:
            return self.found(node)
        except MISFIT as error:
            fact = f"what {node.op} does: its attributes and inputs do not fit ({type(error).__name__}: {error})"
            raise NotKnown(" ".join(fact.split())) from error

    def found(self, node: Node) -> str | None:
        """What ``broken`` says of a valid node. Raises NotKnown."""
        raise NotImplementedError(f"limit {self.kind} checks nothing")
