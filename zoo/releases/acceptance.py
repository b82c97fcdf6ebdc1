"""Whether a lite model is good enough to be released: the bounds of its recipe's ``accept``, and what was reached."""

from zoo.config import Config
from zoo.metric_names import spelt
from zoo.recipe import Accept

# Accuracies are quotients such as 899 / 1000, whose differences miss the bound that they meet by a rounding.
DIGITS = 9


class Acceptance(Config):
    """The bounds on a release's headline metric, and what was reached; shares between 0 and 1.

    The source's accuracy is the one measured by the baseline step, on the same validation images as the lite model's,
    never a published figure.
    """

    lost_at_most: float | None = None
    at_least: float | None = None  # in the profile that the release was built with
    lost: float  # the source's metric minus the lite model's; negative where that gained
    reached: float  # the lite model's metric

    @property
    def missed(self) -> tuple[str, ...]:
        """What is asked for and not reached, with the shortfall; nothing where the model is accepted."""
        found = []
        if self.lost_at_most is not None and not self.lost <= self.lost_at_most:  # so that NaN is refused
            bound = f"lost_at_most allows {points(self.lost_at_most)}"
            found.append(f"{_counted(self.lost)} lost, {bound}, {points(self.lost - self.lost_at_most)} too many")
        if self.at_least is not None and not self.reached >= self.at_least:
            found.append(f"at_least asks for {share(self.at_least)}, {_counted(self.at_least - self.reached)} short")
        return tuple(found)


def acceptance(accept: Accept, profile: str, source: float, lite: float) -> Acceptance | None:
    """What applies in a profile; None where the recipe has no bound for it."""
    at_least = accept.at_least.get(profile)
    if accept.lost_at_most is None and at_least is None:
        return None
    lost = round(source - lite, DIGITS)
    return Acceptance(lost_at_most=accept.lost_at_most, at_least=at_least, lost=lost, reached=round(lite, DIGITS))


def refusal(found: Acceptance, metric: str, measured_on: str) -> str:
    """Why a model is not released, on one line: what was measured on what, each bound missed, what to do."""
    source, lite = share(found.reached + found.lost), share(found.reached)
    return (
        f"{spelt(metric)} is {lite}, the source's {source}, on {measured_on}: {'; '.join(found.missed)}; not released: "
        "train longer or otherwise (train: epochs, lr, schedule), or change the bound if this is good enough"
    )


def told(found: Acceptance, metric: str) -> str:
    """The bounds that were met, for people."""
    bounds = []
    if found.lost_at_most is not None:
        bounds.append(f"at most {_counted(found.lost_at_most)} of {spelt(metric)} may be lost ({_change(found.lost)})")
    if found.at_least is not None:
        bounds.append(f"at least {share(found.at_least)} has to be reached (reached: {share(found.reached)})")
    return "; ".join(bounds)


def points(value: float) -> str:
    """A difference of shares in percentage points, exact enough to tell a narrow miss."""
    return f"{value * 100:.3g}"


def share(value: float) -> str:
    """A share in percent, as exact."""
    return f"{points(value)} %"


def _counted(value: float) -> str:
    return f"{points(value)} point" + ("" if points(value) == "1" else "s")


def _change(lost: float) -> str:
    return f"gained: {points(-lost)}" if lost < 0 else f"lost: {points(lost)}"
