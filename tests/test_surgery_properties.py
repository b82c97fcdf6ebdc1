"""What survives surgery: random networks, and everything a model carries besides its layers."""

import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import surgery
from surgery.fingerprint import fingerprint

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
MODULES = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "large": lambda: nn.Conv2d(4, 4, 7, padding=3, groups=2),
    "bn": lambda: nn.BatchNorm2d(4),
    "silu": lambda: nn.SiLU(),
    "gelu": lambda: nn.GELU(),
    "pool": lambda: nn.MaxPool2d(5, 1, 2),
}
FUNCTIONS = {
    "hardswish": lambda graph, x: graph.call_function(F.hardswish, (x,)),
    "swish": lambda graph, x: graph.call_function(torch.mul, (x, graph.call_method("sigmoid", (x,)))),
    "gelu_tanh": lambda graph, x: graph.call_function(F.gelu, (x,), {"approximate": "tanh"}),
    "relu6": lambda graph, x: graph.call_function(F.relu6, (x,)),
}
STEP = st.tuples(st.sampled_from([*MODULES, *FUNCTIONS, "add", "reuse"]), st.integers(0, 99), st.integers(0, 99))


def network(steps: list[tuple[str, int, int]]) -> fx.GraphModule:
    """A graph in which each step reads earlier values; "reuse" calls a module that is there already."""
    graph, root, called = fx.Graph(), nn.Module(), []
    values = [graph.placeholder("x")]
    for number, (kind, first, second) in enumerate(steps):
        x = values[first % len(values)]
        if kind == "add":
            values.append(graph.call_function(torch.add, (x, values[second % len(values)])))
        elif kind in FUNCTIONS:
            values.append(FUNCTIONS[kind](graph, x))
        elif kind == "reuse" and called:
            values.append(graph.create_node("call_module", called[second % len(called)], (x,)))
        elif kind in MODULES:
            called.append(f"{kind}{number}")
            root.add_module(called[-1], MODULES[kind]())
            values.append(graph.create_node("call_module", called[-1], (x,)))
    graph.output(values[-1] if len(values) == 1 else graph.call_function(torch.add, (values[-1], values[-2])))
    return fx.GraphModule(root, graph)


def digest(model: nn.Module) -> tuple[str, str, dict[str, Tensor]]:
    return repr(model), fingerprint(model), deepcopy(model.state_dict())


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=8))
def test_random_graphs(steps: list[tuple[str, int, int]]) -> None:
    model = network(steps).eval()
    text, structure, state = digest(model)
    lite, report = surgery.lite(model, example_inputs=X)
    assert (repr(model), fingerprint(model)) == (text, structure)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not report.refusals
    assert lite(X).shape == model(X).shape
    assert lite(X[:1]).shape == model(X[:1]).shape
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))
    _twice, more = surgery.lite(lite, example_inputs=X)
    assert not more.edits
    assert torch.equal(deepcopy(lite)(X), lite(X))
    if report.same_output:
        assert torch.allclose(lite(X), model(X), rtol=1e-4, atol=1e-4)


CARRIED = st.sets(st.sampled_from(["frozen", "tied", "hook", "train", "double", "channels_last", "buffer"]))


@settings(max_examples=30, deadline=None)
@given(st.lists(STEP, min_size=2, max_size=6), CARRIED)
def test_what_random_graphs_carry(steps: list[tuple[str, int, int]], carried: set[str]) -> None:
    model = network([("conv", 0, 0), ("conv", 1, 0), ("silu", 2, 0), *steps])
    first, second, act = model.get_submodule("conv0"), model.get_submodule("conv1"), model.get_submodule("silu2")
    calls: list[int] = []
    model.train("train" in carried)
    if "frozen" in carried:
        first.requires_grad_(False)
    if "tied" in carried:
        second.weight = first.weight
    if "hook" in carried:
        act.register_forward_hook(lambda *_: calls.append(1))
    if "buffer" in carried:
        model.register_buffer("mean", torch.zeros(1))
    if "double" in carried:
        model.double()
    if "channels_last" in carried:
        model.to(memory_format=torch.channels_last)
    x = X.to(first.weight.dtype)
    lite, report = surgery.lite(model, example_inputs=x)
    assert not report.refusals
    assert {m.training for m in lite.modules()} == {"train" in carried}
    assert {p.dtype for p in lite.parameters()} == {p.dtype for p in model.parameters()}
    kept = dict(lite.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in kept:
            assert kept[name].requires_grad == parameter.requires_grad
            assert kept[name].stride() == parameter.stride()
    assert (kept["conv0.weight"] is kept["conv1.weight"]) == ("tied" in carried)
    assert ("mean" in dict(lite.named_buffers())) == ("buffer" in carried)
    calls.clear()
    model(x)
    expected, calls[:] = len(calls), []
    lite(x)
    assert len(calls) == expected


class Model(nn.Module):
    """A bit of everything that surgery may lose."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 7, padding=3)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.SiLU()
        self.first = nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        self.second.weight = self.first.weight  # tied
        self.again = self.act  # shared
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.register_buffer("scale", torch.full((1,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        x = F.hardswish(self.first(x)) + self.again(self.second(x))
        return self.pool(x) * self.scale


def test_tied_shared_frozen_hooked() -> None:
    calls: list[str] = []
    model = Model()
    model.norm.eval()
    model.stem.requires_grad_(False)
    model.act.register_forward_hook(lambda *_: calls.append("act"))
    model.stem.register_forward_pre_hook(lambda *_: calls.append("stem"))
    lite, report = surgery.lite(model, example_inputs=X)
    assert set(report.by_rule()) >= {"silu_to_relu", "hardswish_to_relu", "split_large_kernel", "split_max_pool"}
    assert lite.first.weight is lite.second.weight
    assert lite.act is lite.again
    assert not any(p.requires_grad for p in lite.stem.parameters())
    assert all(p.requires_grad for p in lite.first.parameters())
    assert lite.training
    assert not lite.norm.training
    assert torch.equal(lite.scale, model.scale)
    assert "scale" in lite.state_dict()
    calls.clear()
    lite(X)
    assert calls == ["stem", "act", "act"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_and_memory_format(dtype: torch.dtype) -> None:
    model = Model().to(dtype).to(memory_format=torch.channels_last)
    x = X.to(dtype)
    lite, _ = surgery.lite(model, example_inputs=x)
    assert {p.dtype for p in lite.parameters()} == {dtype}
    assert lite(x).dtype == dtype
    kernels = [p for p in lite.parameters() if p.ndim == 4 and p.shape[-1] > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_on_the_meta_device() -> None:
    """Any other device than the CPU: here the one without memory."""
    lite, report = surgery.lite(Model().to("meta"), ["silu_to_relu", "split_large_kernel"])
    assert len(report.edits) == 2
    assert {p.device.type for p in lite.parameters()} == {"meta"}


def test_state_is_saved_and_loaded(tmp_path: Path) -> None:
    model = Model()
    lite, report = surgery.lite(model, example_inputs=X)
    torch.save(lite.state_dict(), tmp_path / "lite.pt")
    again = surgery.replay(Model(), report.plan)
    again.load_state_dict(torch.load(tmp_path / "lite.pt", weights_only=True))
    assert torch.equal(again.eval()(X), lite.eval()(X))
    untouched = {name for name in model.state_dict() if not name.startswith("stem")}
    assert untouched <= lite.state_dict().keys()


def test_torch_export_and_compile() -> None:
    lite, _ = surgery.lite(Model().eval(), example_inputs=X)
    lite.eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(lite, (X,), dynamic_shapes=({0: batch},))
    more = torch.cat([X, X])
    assert torch.allclose(program.module()(more), lite(more), atol=1e-5)
    compiled = torch.compile(lite, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(X), lite(X), atol=1e-6)


def train_together(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    lite, _ = surgery.lite(Model(), example_inputs=X)
    parallel = DistributedDataParallel(lite)
    parallel(X[rank : rank + 1]).square().mean().backward()
    gradient = lite.first.weight.grad
    assert gradient is not None
    torch.save(gradient, f"{folder}/gradient{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_distributed_data_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    mp.spawn(train_together, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"gradient{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    assert first.abs().sum() > 0
