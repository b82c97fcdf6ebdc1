"""From an origin, a plan and a safetensors file to a model: the same way in the pipeline and for the consumer."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

import surgery
from zoo import sources
from zoo.errors import WeightsMismatch
from zoo.origin import Origin


def source_model(origin: Origin) -> nn.Module:
    """The source model with fresh weights.

    Raises MissingLibrary where the source's library is not installed.
    """
    library = sources.find(origin.library)
    size = origin.preprocessing.size
    return library.build(origin.model, num_classes=origin.num_classes, image_size=size, **origin.options)


def read_plan(file: Path) -> surgery.Plan:
    """The surgery plan that the surgery step wrote. Raises WeightsMismatch where the file is no plan."""
    try:
        return surgery.Plan.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, surgery.PlanMismatch) as error:
        raise WeightsMismatch(f"{file}: {error}; build it again") from error


def lite_model(origin: Origin, plan: surgery.Plan) -> nn.Module:
    """The lite model with fresh weights: the source model with the plan's edits.

    Raises WeightsMismatch where the plan was made for another model.
    """
    try:
        return surgery.replay(source_model(origin), plan)
    except surgery.PlanMismatch as error:
        raise WeightsMismatch(
            f"{origin.library}/{origin.model}: {error}; the plan was made with {origin.library} "
            f"{origin.library_version}: install that version or build the release again"
        ) from error


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a model's state_dict; tied weights are stored once."""
    safetensors.torch.save_model(model, str(file))


def load_weights(model: nn.Module, file: Path) -> None:
    """Load a state_dict, strictly.

    Raises WeightsMismatch naming the first differences when the file belongs to another model or is damaged.
    """
    try:
        state = OrderedDict(safetensors.torch.load_file(str(file)))
        _require_names(model.state_dict(), state, file)
        state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]  # versions; the file has none
        model.load_state_dict(state, strict=False)  # tied weights are in the file once
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise WeightsMismatch(f"{file}: {' '.join(str(error).split())[:300]}; build or pull it again") from error


def _require_names(model: Mapping[str, Tensor], state: Mapping[str, Tensor], file: Path) -> None:
    """Each tensor of the model is in the file, once where several names share its memory, and no other is."""
    places = {name: tensor.untyped_storage().data_ptr() or name for name, tensor in model.items()}
    stored = {places[name]: name for name in state if name in places}
    missing = [name for name, place in places.items() if place not in stored]
    unexpected = [name for name in state if name not in places or stored[places[name]] != name]
    if missing or unexpected:
        names = ", ".join(sorted([*missing, *unexpected])[:3])
        raise WeightsMismatch(
            f"{file}: not this model's weights: {len(missing)} missing and {len(unexpected)} unknown tensors "
            f"({names}); build or pull it again"
        )
