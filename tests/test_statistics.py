"""BatchNorm's statistics behind a training: measured anew, or its running averages; in every task."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from zoo.atomic import write_json
from zoo.config import Dataset, Preprocessing
from zoo.data import judging
from zoo.data.summary import SUMMARY
from zoo.datasets import digit_scenes, digit_scenes_segmentation
from zoo.schedule import Optimizer, Schedule
from zoo.tasks import classification, segmentation
from zoo.training import statistics

SMALL = Preprocessing(resize=32, size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
LETTERBOX = SMALL.model_copy(update={"geometry": "letterbox"})
SCHEDULE = Schedule(description="test", epochs=1, batch_size=8, optimizer=Optimizer(lr=0.05), distillation=None)
TASKS = {
    "classification": (classification, digit_scenes, "imagefolder", SMALL),
    "segmentation": (segmentation, digit_scenes_segmentation, "label_pngs", LETTERBOX),
}


class Small(nn.Module):
    """A BatchNorm whose running averages stay near where they began."""

    def __init__(self, task: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.task = task
        self.stem, self.norm, self.head = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4, momentum=0.01), nn.Conv2d(4, 11, 1)

    def forward(self, inputs: Tensor) -> Any:
        scores = self.head(self.norm(self.stem(inputs)).relu())
        if self.task == "segmentation":
            return {"out": nn.functional.interpolate(scores, inputs.shape[-2:])}
        return scores.mean((2, 3))[:, :10]


@pytest.fixture(params=TASKS)
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., tuple[Small, Iterator[Tensor]]]:
    """A function that trains a small model with changes of the schedule; the model, and what its statistics are of."""
    task, generator, layout, preprocessing = TASKS[request.param]
    data = tmp_path / "data"
    data.mkdir()
    generator.generate(data, train=24, val=11, size=32)
    dataset = Dataset(
        description="test", task=request.param, layout=layout, generator=generator.__name__.rpartition(".")[2],
        num_classes=11 if request.param == "segmentation" else 10, mean=SMALL.mean, std=SMALL.std, licence="none",
    )  # fmt: skip
    summary = judging.summarise("digits", dataset, data, inside=True)
    write_json(data / SUMMARY, summary.model_dump(mode="json"))

    def fitted(**changes: Any) -> tuple[Small, Iterator[Tensor]]:
        model = Small(request.param)
        folder = tmp_path / (str(changes) or "own")
        folder.mkdir()
        schedule = SCHEDULE.model_copy(update=changes)
        task.fit(model, data, preprocessing, schedule, name="small", folder=folder, key="k" * 64)
        count = task.STATISTICS_BATCHES
        return model, task.calibration_batches(data, preprocessing, schedule.batch_size, count, schedule.seed)

    return fitted


def test_the_weights_are_the_same_either_way(
    trained: Callable[..., tuple[Small, Iterator[Tensor]]],
) -> None:
    measured, batches = trained()
    running, _ = trained(statistics="running")
    weights = dict(measured.named_parameters())
    assert len(weights) == 6
    for name, weight in running.named_parameters():
        assert torch.equal(weight, weights[name]), name
    assert running.norm.running_var is not None
    assert measured.norm.running_var is not None
    # Three steps of 0.01 from the 1 that a new BatchNorm has; measured anew it is the features' own.
    assert (running.norm.running_var - 1).abs().max() < 0.03 * (measured.norm.running_var - 1).abs().max() + 0.01
    assert (measured.norm.running_var - 1).abs().max() > 0.1

    statistics.settle(running, SCHEDULE, batches)
    for name, statistic in running.named_buffers():
        torch.testing.assert_close(statistic, measured.get_buffer(name))


def test_running_averages_are_left_without_a_look_at_an_image() -> None:
    def batches() -> Iterator[Tensor]:
        raise AssertionError("read")
        yield

    model = Small("classification")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    statistics.settle(model, SCHEDULE.model_copy(update={"statistics": "running"}), batches())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_no_other_word_is_taken() -> None:
    with pytest.raises(ValidationError, match="'measured' or 'running'"):
        Schedule.model_validate(SCHEDULE.model_dump() | {"statistics": "none"})
