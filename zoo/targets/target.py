"""What a target profile may say: operators with status and limits, patterns, opset and IR version, devices, sources."""

from typing import Annotated, Literal

from pydantic import Field

from zoo.config import Config, Name, Opset, Positive
from zoo.targets.limit import Severity
from zoo.targets.limits import AnyLimit

Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Cited(Config):
    """Where facts come from."""

    title: str
    url: str | None = None
    version: str | None = None  # a tag or commit


class Operator(Config):
    """How the device treats one ONNX operator, or one pattern of several that it knows as one layer.

    An operator is ``accelerated`` where every limit of severity error holds; ``fused_only`` inside a pattern that is
    listed; ``ends_only`` where it reads the model's input or makes its output. One that is not listed is not
    accelerated. A pattern takes its nodes whole, whatever is said of each; one with a ``cost`` is no layer of the
    device: it runs where each of its nodes does, at that cost.
    """

    status: Literal["accelerated", "fused_only", "ends_only"] = "accelerated"
    limits: Annotated[tuple[AnyLimit, ...], Field(strict=False)] = ()
    layer: str = ""  # what the device's tools call it, where that is not the operator's own name
    note: str = ""
    cost: str = ""  # why it runs slowly or less exactly, where it does: a finding of severity cost


class Opsets(Config):
    """Versions of ONNX's operators that the device's importer reads, and the one that exports are written in."""

    max: Positive
    export: Opset
    validated: Annotated[tuple[Positive, ...], Field(strict=False)] = ()  # tried by its maker; in others: a warning
    severity: Severity = "error"  # of a model in a later one


class Runtime(Config):
    """What the device's runtime takes."""

    max_subgraphs: Positive | None = None
    tensor_bits: Annotated[tuple[Positive, ...], Field(strict=False)] = ()  # of activations, for people
    simulated_bits: Positive | None = None  # what its simulation on a computer can use instead, for people


class Rewrites(Config):
    """What the maker's own tool changes in an ONNX file before it is compiled, for people: the linter takes the file as
    it is."""

    by_default: Texts = ()
    on_request: Texts = ()


class Device(Config):
    """One device of the target and how it differs."""

    description: str = ""
    aliases: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    accelerator: bool = True  # without one, every operator runs on the host
    not_accelerated: Texts = ()  # operators and patterns, though the target lists them
    costly: dict[str, str] = Field(
        default_factory=dict
    )  # operators and patterns that run slowly or less exactly here, and why


class Target(Config):
    """A device family's operators and limits, in one version of its tools."""

    description: str
    sources: Annotated[tuple[Cited, ...], Field(strict=False, min_length=1)]  # where a target extends another: its too
    extends: Name | None = None  # another target; what is said here takes the place of what is said there, key by key
    removed: Texts = ()  # operators, patterns and devices of the extended target that are not listed here
    opset: Opsets
    ir_version: Positive | None = None  # the latest that the importer reads; none: its maker does not say
    runtime: Runtime = Runtime()
    versions: dict[str, str] = Field(default_factory=dict)  # of the tools that the facts are about
    rewrites: Rewrites = Rewrites()
    detection_heads: dict[str, str] = Field(
        default_factory=dict
    )  # whose decoding the tools run as one layer, by their number, for people
    devices: dict[Name, Device] = Field(default_factory=dict)
    operators: dict[str, Operator]  # by ONNX operator type
    patterns: dict[str, Operator] = Field(default_factory=dict)  # by name: a module of zoo.linting.patterns
    unchecked: Texts = ()  # what a model cannot be checked for, such as limits of quantised models in a float one

    @property
    def device_names(self) -> tuple[str, ...]:
        """What the devices may be called: their names and aliases."""
        return tuple(name for own, device in self.devices.items() for name in (own, *device.aliases))
