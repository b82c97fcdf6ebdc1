"""How many times our loss that of mmyolo's own trainings is, which their learning rates for SGD are for."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from zoo.config import Preprocessing
from zoo.detection import objective
from zoo.preprocess import normalised
from zoo.training import devices

if not all(find_spec(name) for name in ("mmyolo", "mmdet", "mmcv", "mmengine")):
    pytest.skip("mmyolo is an extra", allow_module_level=True)

REPOSITORY = Path(__file__).parents[1]
SIZE, IMAGES, DEVICES = 96, 2, 8
LETTERBOX = Preprocessing(geometry="letterbox", resize=SIZE, size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
TIMES = {  # of a device's images and 8 devices
    "yolov5_n_lite": IMAGES * DEVICES,
    "yolov6_n_lite": DEVICES,
    "yolov7_tiny_lite": IMAGES * DEVICES,
    "yolov8_n_lite": IMAGES * DEVICES,
    "yolox_nano_lite": 1,
    "rtmdet_tiny_lite": 1,
    "ppyoloe_plus_s_lite": 1,
}


@pytest.mark.parametrize("name", TIMES)
def test_the_loss_there_is_a_known_multiple_of_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.logging import MessageHub

    from zoo.sources import mmyolo

    MessageHub.get_current_instance().update_info("epoch", 0)  # two heads ask for it
    recipe = yaml.safe_load((REPOSITORY / "recipes" / "mmyolo" / f"{name}.yaml").read_text("utf-8"))
    model: Any = mmyolo.build(recipe["source"]["config"], num_classes=10)
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    boxes = torch.tensor([[[3, 10, 12, 50, 60], [7, 40.5, 30, 90, 88.25]], [[0, 20, 5, 60, 45], [1, 8, 40, 40, 90]]])
    ours = objective.own_loss(model, normalised(pixels, LETTERBOX), boxes)
    theirs: list[torch.Tensor] = []
    computed = model.loss

    def noted(inputs: torch.Tensor, samples: Any) -> Any:
        terms = computed(inputs, samples)
        theirs.append(torch.stack([term.sum() for term in terms.values()]).sum())
        return terms

    monkeypatch.setattr(model, "loss", noted)
    for kind in type(model.bbox_head).__mro__:
        module = import_module(kind.__module__) if kind.__module__.startswith("mmyolo") else None
        if module is not None and hasattr(module, "get_dist_info"):
            monkeypatch.setattr(module, "get_dist_info", lambda: (0, DEVICES))
    monkeypatch.setattr(devices, "count", lambda: DEVICES)
    on_devices = objective.own_loss(model, normalised(pixels, LETTERBOX), boxes)
    assert ours.item() > 0
    torch.testing.assert_close(on_devices, ours)  # its gradients are averaged over them
    torch.testing.assert_close(theirs[0], TIMES[name] * ours, rtol=1e-4, atol=0)


def test_every_family_of_the_recipes_is_covered() -> None:
    families = {file.name.partition("_")[0] for file in (REPOSITORY / "recipes" / "mmyolo").glob("*.yaml")}
    assert {name.partition("_")[0] for name in TIMES} == families
    assert len(families) == 7
