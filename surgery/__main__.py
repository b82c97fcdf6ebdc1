"""``python -m surgery`` lists the rules in the order of their turn: name, promise, whether by default, reason."""

import inspect

from surgery.registry import rules


def _reason(rule: object) -> str:
    """The first paragraph of the docstring on one line."""
    return " ".join((inspect.getdoc(type(rule)) or "").partition("\n\n")[0].split())


known = rules()
width = max(map(len, known))
for name, rule in known.items():
    print(f"{name:{width}}  {rule.promise.value:11}  {'default' if rule.default else 'option ':7}  {_reason(rule)}")
