"""``python -m surgery`` lists the rules: name, promise, reason."""

import inspect

from surgery.registry import rules

for name, rule in rules().items():
    print(f"{name:22} {rule.promise.value:12} {inspect.getdoc(type(rule))}")
