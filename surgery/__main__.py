"""``python -m surgery`` lists the rules in the order of their turn: name, promise, whether by default, reason."""

import inspect
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from surgery.registry import rules
from surgery.rule import Rule


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rules of these names, or all. Exits with status 2 where a name is no rule."""
    known = rules()
    parser = ArgumentParser(
        prog="python -m surgery",
        description="List the rules of surgery in the order of their turn: name, promise, default or option, reason.",
        epilog="Rules are applied in Python: surgery.lite(model, example_inputs=images).",
    )
    parser.add_argument("rule", nargs="*", help="names of rules to tell about (default: all)")
    wanted = parser.parse_args(arguments).rule
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no rule named {', '.join(unknown)}")
    chosen = {name: rule for name, rule in known.items() if not wanted or name in wanted}
    width = max(map(len, chosen))
    for name, rule in chosen.items():
        print(f"{name:{width}}  {rule.promise.value:11}  {'default' if rule.default else 'option ':7}  {_reason(rule)}")


def _reason(rule: Rule) -> str:
    """The first paragraph of the docstring on one line."""
    return " ".join((inspect.getdoc(type(rule)) or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere when Python ends
