"""What a training that diverged leaves: its last good checkpoint, and a note that stops the same from happening again.

The same settings lead to the same end, so that a training with them is refused until the note is removed.
"""

from pathlib import Path

from zoo.atomic import write_text
from zoo.errors import TrainingDiverged
from zoo.training import checkpoints, devices

NOTE = "diverged.txt"


def remembered(partial: Path, error: TrainingDiverged) -> TrainingDiverged:
    """The error with where the last good checkpoint is, after leaving the note beside it."""
    kept = checkpoints.newest_file(partial)
    told = f"the last good checkpoint is kept: {kept}" if kept else "there is no checkpoint: no epoch was finished"
    text = f"{error}; {told}"
    if devices.is_first():
        write_text(partial / NOTE, text + "\n")
    return TrainingDiverged(text)


def refuse(partial: Path) -> None:
    """Raises TrainingDiverged where a training diverged here before."""
    note = partial / NOTE
    if note.is_file():
        before = note.read_text(encoding="utf-8").strip()
        raise TrainingDiverged(
            f"with the same settings this training diverged before, and would again: {before}; change the settings, or "
            f"remove {note} to go on from there"
        )
