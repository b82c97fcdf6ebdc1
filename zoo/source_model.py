"""From an origin and a safetensors file to the source model; of any model, its weights to a file and back."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from zoo import sources
from zoo.atomic import replace_file
from zoo.errors import UnusableFile, WeightsMismatch
from zoo.origin import Origin


def source_model(origin: Origin) -> nn.Module:
    """The source model with fresh weights.

    Raises MissingLibrary where the source's library is not installed.
    """
    library = sources.find(origin.library)
    size = origin.preprocessing.size
    return library.build(origin.model, num_classes=origin.num_classes, image_size=size, **origin.options)


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a model's state_dict; tied weights are stored once.

    Raises UnusableFile where it cannot be written; what was there before is there still.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        safetensors.torch.save_model(model, str(temporary))
        replace_file(temporary, file)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        fact = " ".join(str(error).split())[:200]
        raise UnusableFile(f"{file}: cannot be written: {fact}; make room there and build again") from error


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
