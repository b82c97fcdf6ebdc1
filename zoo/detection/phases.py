"""What a detector's own training changes on its way, at the same share of ours: assigners and a further loss."""

from typing import Any

from mmengine.hooks import Hook

# How long targets are assigned by position alone, before that depends on what is predicted: 4 of 400 epochs in YOLOv6's
# configs, 30 of 80 in PPYOLOE+'s.
BY_POSITION = {"YOLOv6Head": 4 / 400, "PPYOLOEHead": 30 / 80}
# From when on YOLOX's loss has a term for the distance of the boxes' numbers: the last 15 of 300 epochs.
WITH_DISTANCE = 1 - 15 / 300


class Phases(Hook):  # type: ignore[misc]  # mmengine has no types
    """Tells the head where in the training it is. What it says depends on the iteration alone, so that a resumed
    training is the same."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        done = runner.iter / runner.max_iters
        head = runner.model.student.bbox_head
        kind = type(head).__name__
        if kind in BY_POSITION:  # these heads ask the running training for its epoch
            runner.message_hub.update_info("epoch", 0 if done < BY_POSITION[kind] else head.initial_epoch)
        if kind == "YOLOXHead":
            head.use_bbox_aux = done >= WITH_DISTANCE

    def after_train(self, runner: Any) -> None:
        head = runner.model.student.bbox_head
        if type(head).__name__ == "YOLOXHead":
            head.use_bbox_aux = False
