"""A training of seconds: images of 8 pixels a side, a network of one convolution, and processes that train it."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from zoo.config import Preprocessing
from zoo.layouts.imagefolder import Images
from zoo.schedule import Optimizer, Schedule
from zoo.training import devices
from zoo.training.images import ImageSet, training_loader
from zoo.training.runner import Trained, train

PREPROCESSING = Preprocessing(resize=8, size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
KEY = "k" * 64

Loss = Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor]


def schedule(**changes: object) -> Schedule:
    settings: dict[str, object] = {
        "description": "test",
        "epochs": 3,
        "batch_size": 8,
        "optimizer": Optimizer(lr=0.05, weight_decay=1e-4),
        "warmup_epochs": 0.5,
        "ema_decay": 0.8,
        "augmentation": "shift",
    }
    return Schedule.model_validate(settings | changes)


def images(folder: Path, count: int = 20) -> Images:
    """Files in the folder, made where they are missing; every image has a texture of its own."""
    folder.mkdir(exist_ok=True)
    files = tuple(folder / f"{index:02d}.png" for index in range(count))
    for index, file in enumerate(files):
        if not file.exists():
            pixels = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(index))
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(file)
    return Images(files, tuple(index * 2 // count for index in range(count)))


class Small(nn.Sequential):
    """Two classes; with statistics of the batch where it is normalised."""

    def __init__(self, *, normalised: bool = True, dropout: float = 0.0) -> None:
        torch.manual_seed(1)
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if normalised else nn.Identity(), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4, 2),
        )  # fmt: skip


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """In the precision of the model's weights."""
    pixels = batch[0].to(next(model.parameters()).dtype) / 255
    return nn.functional.cross_entropy(model(pixels), batch[1])


def brightness(model: nn.Module) -> float:
    """An evaluation that weights and statistics change."""
    was_training = model.training
    with torch.no_grad():
        grey = torch.full((1, 3, 8, 8), 0.5, dtype=next(model.parameters()).dtype)
        answer = model.eval()(grey).softmax(1)[0, 0].item()
    model.train(was_training)
    return answer


def fit(
    model: nn.Module,
    found: Images,
    folder: Path,
    plan: Schedule,
    evaluate: Callable[[nn.Module], float] = brightness,
    objective: Loss = loss,
    **options: Any,
) -> Trained:
    loader = training_loader(ImageSet(found, PREPROCESSING, plan.augmentation, plan.seed), plan.batch_size, 0)
    return train(
        model, objective, loader, evaluate, plan, metric="top1", name="small", folder=folder, key=KEY, **options
    )


def together(target: Callable[..., None], *arguments: Any, count: int = 2) -> list[int | None]:
    """Run a function of a module in processes that have joined, as torchrun would; their exit codes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_joined, args=(rank, count, port, target, arguments)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        process.kill()
    return [process.exitcode for process in processes]


def _joined(rank: int, count: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"})
    with devices.joined():
        target(*arguments)
