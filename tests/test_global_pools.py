"""Means over the whole plane are exported as global pools; others stay means."""

import onnx
import pytest
import torch
from torch import Tensor, nn

from zoo.onnx.exporting import INPUT, export
from zoo.onnx.global_pools import LARGEST_PLANE
from zoo.onnx.session import Session


class Mean(nn.Module):
    def __init__(self, dims: tuple[int, ...], keepdim: bool) -> None:
        super().__init__()
        self.dims, self.keepdim = dims, keepdim
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(self.dims, keepdim=self.keepdim)


def exported(
    model: nn.Module, size: int, opset: int = 18, dynamic_batch: bool = False
) -> tuple[onnx.ModelProto, set[str]]:
    image = torch.randn(1, 3, size, size)
    made = export(model, image, opset=opset, dynamic_batch=dynamic_batch)
    images = torch.randn(3, 3, size, size)
    expected = model(images)
    (found,) = Session(made).run_each(images, batch=3 if dynamic_batch else 1)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)
    return made, {node.op_type for node in made.graph.node}


@pytest.mark.parametrize(
    ("model", "opset", "pools"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)), 18, True),
        (Mean((2, 3), True), 11, True),
        (Mean((-1, -2), False), 18, True),
        (Mean((2, 3), False), 11, True),
        (Mean((2, -1), True), 18, True),
        (Mean((1, 2), True), 18, False),
        (Mean((3,), True), 18, False),
    ],
)
def test_a_mean_over_the_plane_is_a_global_pool(model: nn.Module, opset: int, pools: bool) -> None:
    made, operators = exported(model.eval(), 6, opset)
    read = {name for node in made.graph.node for name in node.input}
    assert {tensor.name for tensor in made.graph.initializer} <= read
    assert ("GlobalAveragePool" in operators, "ReduceMean" in operators) == (pools, not pools)


def test_the_layer_stays_known_and_the_batch_dynamic() -> None:
    made, operators = exported(Mean((2, 3), False).eval(), 6, dynamic_batch=True)
    assert {"GlobalAveragePool", "Flatten"} <= operators
    assert all(node.metadata_props for node in made.graph.node if node.op_type in {"GlobalAveragePool", "Flatten"})
    assert made.graph.input[0].name == INPUT
    assert made.graph.output[0].type.tensor_type.shape.dim[0].dim_param


def test_a_plane_larger_than_devices_pool_stays_a_mean() -> None:
    side = int(LARGEST_PLANE**0.5)
    model = Mean((2, 3), True).eval()
    assert "GlobalAveragePool" in exported(model, side)[1]
    assert "ReduceMean" in exported(model, side + 1)[1]
