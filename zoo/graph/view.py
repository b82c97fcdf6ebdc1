"""A model's graph: nodes in the order they run, each with all that a limit may ask about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

Dimension = int | str | None  # a name where it is dynamic, None where nothing is known


class NotKnown(Exception):
    """What a limit asks cannot be told from the file: a shape that inference does not find, data that are not there."""


# What asking of a node raises where its attributes and inputs are not what ONNX says such a node has.
MISFIT = (ArithmeticError, LookupError, TypeError, ValueError)
NOT_TOLD = (NotKnown, *MISFIT)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. ``constant`` reads its data where the file holds them or they follow from it."""

    name: str
    dims: tuple[Dimension, ...] | None = None
    dtype: str | None = None  # numpy's name, as float32
    constant: "Callable[[], NDArray[Any]] | None" = field(default=None, repr=False, compare=False)
    quantised: str | None = None  # numpy's name of the integers that Q/DQ nodes beside it carry it in, as uint8

    @property
    def is_constant(self) -> bool:
        """Whether the value is the same for every input of the model."""
        return self.constant is not None

    @property
    def rank(self) -> int:
        """The number of dimensions. Raises NotKnown."""
        if self.dims is None:
            raise NotKnown(f"the shape of {self.name}")
        return len(self.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """All dimensions as numbers. Raises NotKnown where one is dynamic or not known."""
        if self.dims is None or any(not isinstance(size, int) for size in self.dims):
            raise NotKnown(f"the shape of {self.name}")
        return tuple(size for size in self.dims if isinstance(size, int))

    def data(self) -> "NDArray[Any]":
        """The constant. Raises NotKnown where the value is none."""
        if self.constant is None:
            raise NotKnown(f"the data of {self.name}")
        return self.constant()


@dataclass(frozen=True)
class Node:
    """One operation. An input that is left out is None."""

    name: str
    op: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    # Python values; text, not bytes; defaults not filled in
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""  # "" is ONNX's own
    module: str | None = None  # dotted path of the torch layer it comes from, where the exporter left it
    torch_op: str | None = None  # base name of the ATen operator it comes from, as hardswish
    macs: int | None = None  # multiply-accumulates; None where the shapes do not tell
    within: str = ""  # the If, Loop or Scan whose body it is in; such a node reads what its bodies return as well
    opset: int = 0  # of its domain, which decides its defaults; 0 where the file does not say

    def input(self, position: int) -> Value:
        """The input at a position. Raises NotKnown where it is left out."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise NotKnown(f"input {position} of {self.op}")
        return value

    @property
    def variables(self) -> tuple[Value, ...]:
        """The inputs that depend on the model's input."""
        return tuple(value for value in self.inputs if value is not None and not value.is_constant)

    @property
    def folded(self) -> bool:
        """Whether it computes a constant, which any runtime does once, before the first image."""
        return bool(self.outputs) and all(value.is_constant for value in self.outputs)


@dataclass(frozen=True)
class Graph:
    """A model: nodes in an order in which each comes after what it reads."""

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: Mapping[str, int]  # by domain; "" is ONNX's own
    ir_version: int
    initializer_bytes: int = 0  # of weights
    notes: tuple[str, ...] = ()  # what the reader could not tell or took for granted, each a sentence for people

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes a value, by the value's name."""
        return {value.name: node for node in self.nodes for value in node.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read a value, by the value's name; values that nobody reads are not in it."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(value.name for value in node.inputs if value is not None):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}
