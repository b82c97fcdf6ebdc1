"""What can go wrong: surgery that cannot be done, and a plan that belongs to another model."""


class SurgeryError(Exception):
    """Surgery cannot be done as asked; the input model is unchanged. One line."""


class PlanMismatch(SurgeryError):
    """A plan does not belong to this model, or cannot be read by this version."""
