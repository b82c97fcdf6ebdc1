"""Which of a target's devices a model is linted for."""

from zoo.errors import UnknownName
from zoo.targets.target import Target

UNNAMED = ""  # the one device of a target that tells none apart


def chosen_devices(target: Target, target_name: str, device: str) -> tuple[str, ...]:
    """The devices by their own names: the one that is called so, in any case or by an alias.

    "" stands for all that have an accelerator. A target that names no devices has one without a name. Raises
    UnknownName.
    """
    if not device:
        return tuple(name for name, each in target.devices.items() if each.accelerator) or (UNNAMED,)
    wanted = device.casefold()
    for name, each in target.devices.items():
        if wanted in {known.casefold() for known in (name, *each.aliases)}:
            return (name,)
    known = f"it has {_listed(target)}" if target.devices else "it tells no devices apart, leave the device out"
    raise UnknownName(f"target {target_name}: no device {device!r}; {known}")


def has_accelerator(target: Target, device: str) -> bool:
    """Whether anything is accelerated there at all."""
    return target.devices[device].accelerator if device in target.devices else not target.devices


def _listed(target: Target) -> str:
    return ", ".join(
        f"{name} ({', '.join(each.aliases)})" if each.aliases else name for name, each in target.devices.items()
    )
