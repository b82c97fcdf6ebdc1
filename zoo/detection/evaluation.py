"""COCO's mean average precision, by mmdet's metric: https://cocodataset.org/#detection-eval"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.detection.suppression import Detections
from zoo.errors import DatasetError
from zoo.layouts.coco import Images
from zoo.openmmlab import operators

FIGURES = {"map": "bbox_mAP", "map_50": "bbox_mAP_50", "map_75": "bbox_mAP_75"}


def average_precision(found: Sequence[Detections], images: Images, labels: Sequence[str]) -> dict[str, float]:
    """``map`` over overlaps from 0.5 to 0.95, ``map_50`` and ``map_75``, as fractions that mmdet rounds to 3 digits.

    ``found`` is of each image in turn, boxes in its pixels. Crowds are counted neither as found nor as missed. Where
    nothing is found, all are 0. Raises DatasetError where there is no box to find.
    """
    if not any(not crowd for crowds in images.crowds for crowd in crowds):
        raise DatasetError(
            f"{images.annotations}: no box to measure on; use a dataset whose validation images have some"
        )
    if not any(len(each.boxes) for each in found):  # mmdet's metric has no figures for this
        return dict.fromkeys(FIGURES, 0.0)
    with _quiet():
        from mmdet.evaluation import CocoMetric

        metric = CocoMetric()
        metric.dataset_meta = {"classes": tuple(labels)}
        metric.process({}, [_sample(index, images, each) for index, each in enumerate(found)])
        figures = metric.compute_metrics(metric.results)
    return {name: float(figures[theirs]) for name, theirs in FIGURES.items()}


def _sample(index: int, images: Images, found: Detections) -> dict[str, Any]:
    width, height = images.sizes[index]
    objects = zip(images.boxes[index], images.classes[index], images.crowds[index], strict=True)
    return {
        "img_id": index,
        "ori_shape": (height, width),
        "instances": [{"bbox": box, "bbox_label": kind, "ignore_flag": int(crowd)} for box, kind, crowd in objects],
        "pred_instances": {"bboxes": found.boxes, "scores": found.scores, "labels": found.labels},
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tables that pycocotools prints and mmengine logs, and without the warnings of mmdet's import."""
    operators.register()
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before, logger.disabled = logger.disabled, True
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before
