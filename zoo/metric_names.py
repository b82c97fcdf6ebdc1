"""How people write the metrics that tasks name; needs nothing, so that lists are instant."""

SPELLINGS = {"top1": "top-1", "top5": "top-5", "miou": "mIoU", "map": "mAP"}


def spelt(metric: str) -> str:
    """The metric as it stands in tables; one that nobody has spelt is shown as it is."""
    return SPELLINGS.get(metric, metric)
