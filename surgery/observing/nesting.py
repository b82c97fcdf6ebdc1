"""Qualified names of modules: which is inside which."""


def is_within(name: str, outer: str) -> bool:
    """Whether a module of that name is another one or is inside it."""
    return not outer or name == outer or name.startswith(f"{outer}.")


def outer_names(name: str) -> list[str]:
    """Names of the modules that a module is inside of."""
    parts = name.split(".") if name else []
    return [".".join(parts[:depth]) for depth in range(len(parts))]
