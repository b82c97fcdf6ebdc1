"""The size of what a model is trained on, where it is not the size of its input."""

import torch
from torch import nn

from zoo.config import Preprocessing
from zoo.errors import StepError
from zoo.schedule import Schedule


def cropped_input(preprocessing: Preprocessing, schedule: Schedule) -> Preprocessing:
    """The preprocessing with the sizes that the schedule gives to crop_flip; without that, as it is."""
    if schedule.augmentation != "crop_flip":
        return preprocessing
    sizes = {"size": schedule.crop or preprocessing.size, "resize": schedule.base or preprocessing.resize}
    return preprocessing.model_copy(update=sizes)


def require_crop(model: nn.Module, schedule: Schedule) -> None:
    """Raises StepError where the model cannot take what the schedule crops, before hours are spent on loading it."""
    if schedule.crop is None:
        return
    was_training, device = model.training, next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, schedule.crop, schedule.crop, device=device))
    except Exception as error:  # a model's own code: a size it does not take shows as anything
        fact = " ".join(str(error).split())[:200] or type(error).__name__
        raise StepError(
            f"the model does not take the schedule's crops of {schedule.crop}x{schedule.crop} ({fact}); "
            "name another schedule in the recipe's train, or remove the schedule's crop"
        ) from error
    finally:
        model.train(was_training)
