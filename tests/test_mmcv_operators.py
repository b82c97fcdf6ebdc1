"""The stand-in for mmcv's compiled operators: suppression as mmcv specifies it, the rest by name."""

import sys
import warnings
from collections.abc import Sequence
from fractions import Fraction
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoo.openmmlab import operators

Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def ops() -> ModuleType:
    pytest.importorskip("mmcv")
    operators.register()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "``MultiScaleDeformableAttention``", ImportWarning)
        import mmcv.ops
    return mmcv.ops  # type: ignore[no-any-return]


def overlap(a: Box, b: Box, offset: int) -> Fraction:
    """Intersection over union, exactly; boxes without area overlap nothing."""
    sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset for i in (0, 1)]
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    both = max(sides[0], 0) * max(sides[1], 0)
    union = sum(areas) - both
    return Fraction(both, union) if union else Fraction(0)


def reference(boxes: Sequence[Box], scores: Sequence[float], threshold: float, offset: int = 0) -> list[int]:
    """Best first, of equal scores the first; a box stays where no box that stays overlaps it too much."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def box(corner: tuple[int, int], side: tuple[int, int]) -> Box:
    return (*corner, corner[0] + side[0], corner[1] + side[1])


few = st.integers(0, 12)
BOXES = st.builds(box, st.tuples(few, few), st.tuples(few, few))
SCORES = st.sampled_from([0.125, 0.25, 0.5, 0.5, 0.75, 1.0])  # few, so that many are equal
SCORED = st.lists(st.tuples(BOXES, SCORES), max_size=14)
THRESHOLDS = st.sampled_from([0.0, 0.3337, 0.5, 0.6501, 1.0])  # only 0, 1/2 and 1 can be an overlap: exact in binary


def tensors(scored: Sequence[tuple[Box, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    boxes = torch.tensor([each for each, _ in scored], dtype=torch.float32).reshape(-1, 4)
    return boxes, torch.tensor([score for _, score in scored], dtype=torch.float32)


@settings(deadline=None)  # the first call imports torchvision
@given(SCORED, THRESHOLDS, st.sampled_from([0, 1]), st.sampled_from([0.0, 0.25, 0.5]), st.sampled_from([-1, 1, 3]))
@example([], 0.5, 0, 0.0, -1)
@example([(box((0, 0), (4, 4)), 0.5)] * 3, 0.5, 0, 0.0, -1)
@example([(box((0, 0), (0, 0)), 0.5)] * 2, 0.5, 1, 0.0, -1)  # one pixel each: with an offset they are the same box
def test_nms(
    ops: ModuleType, scored: list[tuple[Box, float]], threshold: float, offset: int, least: float, most: int
) -> None:
    boxes, scores = tensors(scored)
    found, indices = ops.nms(boxes, scores, threshold, offset=offset, score_threshold=least, max_num=most)
    above = [i for i, (_, score) in enumerate(scored) if least == 0 or score > least]
    kept = reference([scored[i][0] for i in above], [scored[i][1] for i in above], threshold, offset)
    expected = [above[i] for i in kept][: most if most > 0 else None]
    assert indices.tolist() == expected
    assert torch.equal(found, torch.cat([boxes[expected], scores[expected, None]], 1))


CLASSED = st.lists(st.tuples(BOXES, SCORES, st.integers(0, 2)), min_size=1, max_size=14)


@settings(deadline=None)  # the first call imports torchvision
@given(CLASSED, THRESHOLDS, st.sampled_from([10_000, 1]))
@example([((0, 0, 12, 12), 0.5, 0), ((0, 0, 12, 12), 0.75, 1), ((1, 0, 12, 12), 0.5, 1)], 0.5, 10_000)
def test_batched_nms_keeps_classes_apart(
    ops: ModuleType, scored: list[tuple[Box, float, int]], threshold: float, split: int
) -> None:
    boxes, scores = tensors([each[:2] for each in scored])
    classes = torch.tensor([label for *_, label in scored])
    how = {"type": "nms", "iou_threshold": threshold, "split_thr": split}
    found, indices = ops.batched_nms(boxes, scores, classes, how)
    expected = set()
    for label in (0, 1, 2):
        own = [i for i, each in enumerate(scored) if each[2] == label]
        expected |= {own[i] for i in reference([scored[i][0] for i in own], [scored[i][1] for i in own], threshold)}
    assert set(indices.tolist()) == expected
    assert len(indices) == len(expected)
    assert found[:, 4].tolist() == sorted((scored[i][1] for i in expected), reverse=True)
    assert torch.equal(found, torch.cat([boxes[indices], scores[indices, None]], 1))


def test_batched_nms_over_all_classes(ops: ModuleType) -> None:
    boxes, scores = tensors([((0, 0, 10, 10), 0.5), ((0, 0, 10, 9), 0.75)])
    how = {"type": "nms", "iou_threshold": 0.5, "class_agnostic": True, "max_num": 5}
    _, indices = ops.batched_nms(boxes, scores, torch.tensor([0, 1]), how)
    assert indices.tolist() == [1]
    empty = torch.zeros(0, 4)
    found, indices = ops.batched_nms(empty, empty[:, 0], torch.zeros(0, dtype=torch.long), how)
    assert (found.shape, indices.tolist()) == ((0, 5), [])


def calls(ops: ModuleType) -> dict[str, Any]:
    boxes, scores = torch.zeros(1, 4), torch.ones(1)
    return {
        "softnms": lambda: ops.soft_nms(boxes, scores),
        "nms_match": lambda: ops.nms_match(torch.zeros(1, 5), 0.5),
        "nms_rotated": lambda: ops.nms_rotated(torch.zeros(1, 5), scores, 0.5),
        "roi_align_forward": lambda: ops.RoIAlign(1)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5)),
    }


@pytest.mark.parametrize("name", ["softnms", "nms_match", "nms_rotated", "roi_align_forward"])
def test_other_operators_say_their_name_and_the_cure(ops: ModuleType, name: str) -> None:
    with pytest.raises(NotImplementedError) as caught:
        calls(ops)[name]()
    assert str(caught.value).startswith(f"mmcv's compiled operator '{name}' is not installed; install mmcv")


def test_a_second_time_changes_nothing(ops: ModuleType) -> None:
    before = sys.modules["mmcv._ext"]
    operators.register()
    assert sys.modules["mmcv._ext"] is before
    assert not hasattr(before, "__path__")  # Python's own questions are answered as of any module


@pytest.mark.parametrize("compiled", [True, False])
def test_the_real_operators_go_first(compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:
        (tmp_path / "_ext.py").touch()
    package = ModuleSpec("mmcv", None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(operators, "find_spec", {"mmcv": package}.get)
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    operators.register()
    assert ("mmcv._ext" in sys.modules) is not compiled
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
