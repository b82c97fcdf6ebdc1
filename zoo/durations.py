"""How people write how long something took; needs nothing, so that a build's lines are instant."""

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """Such as ``0.4 s``, ``52 s``, ``12 min``, ``3.5 h`` or ``2.5 days``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 10 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"
