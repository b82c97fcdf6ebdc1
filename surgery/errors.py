"""What can go wrong: surgery that cannot be done, and a plan that belongs to another model."""


def one_line(error: BaseException, longest: int = 300) -> str:
    """Type and message of an error on one line, for reasons and messages of our own."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:longest]}"


class SurgeryError(Exception):
    """Surgery cannot be done as asked; the input model is unchanged. One line."""


class PlanMismatch(SurgeryError):
    """A plan does not belong to this model, or cannot be read by this version."""
