"""How a model reaches its device: deployed by its task, exported, simplified, read and linted, as the build does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from surgery import Rule
from zoo import tasks
from zoo.choosing.emitted import hopeless, unlisted
from zoo.choosing.linted import Linted, of_model
from zoo.graph.reading import read
from zoo.graph.view import Graph
from zoo.linting.lint import lint
from zoo.linting.report import Report
from zoo.onnx import exporting, simplifying
from zoo.origin import Origin
from zoo.recipe import Export
from zoo.targets.target import Target


@dataclass(frozen=True)
class Deployment:
    """``device`` is one of the target's, or "" for all of them."""

    name: str
    origin: Origin
    export: Export
    target: Target
    target_name: str
    device: str = ""
    left: Mapping[str, str] = field(default_factory=dict)  # what the recipe leaves to the host, and why

    @property
    def opset(self) -> int:
        """Of the ONNX file."""
        return self.export.opset or self.target.opset.export

    def report(self, model: nn.Module, image: Tensor) -> Report:
        """All that the linter says of a model as it will be exported, from one input (1, 3, size, size).

        The model is put into eval mode. Whether the file computes the same as PyTorch is the export step's to prove.
        Raises StepError where the model cannot be exported.
        """
        return self._linted(model, image)[0]

    def lint(self, model: nn.Module, image: Tensor) -> Linted:
        """What the target refuses, by the model's layers; as ``report``."""
        report, graph, deployed = self._linted(model, image)
        return of_model(report, graph, model, deployed, self.left)

    def _linted(self, model: nn.Module, image: Tensor) -> tuple[Report, Graph, nn.Module]:
        task = tasks.find(self.origin.task)
        deployed = task.deployable(model.eval(), self.origin, self.export)
        exported = exporting.export(
            deployed,
            image,
            opset=self.opset,
            ir_version=self.target.ir_version,
            dynamic_batch=self.export.dynamic_batch,
            outputs=task.outputs(self.export),
        )
        host = task.host_boundary(model, exported)
        if self.export.simplify:
            exported = simplifying.simplify(exported, image).model
        graph = read(exported)
        report = lint(graph, self.target, model=self.name, target_name=self.target_name, device=self.device, host=host)
        return report, graph, deployed

    def order(self, rule: Rule) -> tuple[bool, int]:
        """Whether the target takes nothing of what a rule leaves, and how much of it it does not list."""
        about = (rule, self.target, self.target_name, self.device)
        return hopeless(*about), len(unlisted(*about))
