"""A small valid checkout: the files that tests of recipes and configs start from."""

from collections.abc import Mapping
from pathlib import Path

RECIPE = "recipes/torchvision/mobilenet_v2_lite.yaml"
RECIPE_TEXT = """\
description: d
source:
  library: torchvision
  model: mobilenet_v2
  weights: IMAGENET1K_V2
task: classification
target: chip
train:
  epochs: 3
"""
DATASET, DATASET_TEXT = (
    "configs/datasets/digits.yaml",
    """\
description: d
task: classification
layout: imagefolder
generator: digit_scenes
parameters:
  train: 10
num_classes: 10
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
licence: none
""",
)
SCHEDULE, SCHEDULE_TEXT = (
    "configs/schedules/short.yaml",
    """\
description: d
epochs: 1
batch_size: 8
optimizer:
  lr: 0.1
""",
)
TARGET, TARGET_TEXT = (
    "configs/targets/chip.yaml",
    """\
description: d
sources: [{title: s}]
opset: {max: 20, export: 18}
operators:
  Conv: {limits: [{kind: allowed_windows, only: [{kernel_max: 5}]}]}
""",
)
PROFILE, PROFILE_TEXT = (
    "configs/profiles/demo.yaml",
    """\
description: d
weights: scratch
starter: [mobilenet_v2_lite]
tasks:
  classification:
    dataset: digits
    baseline: short
    train: short
    input_size: 32
timeout_minutes:
  surgery: 5
""",
)
TEXTS = {
    RECIPE: RECIPE_TEXT,
    DATASET: DATASET_TEXT,
    SCHEDULE: SCHEDULE_TEXT,
    TARGET: TARGET_TEXT,
    PROFILE: PROFILE_TEXT,
}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root
