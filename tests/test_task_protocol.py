"""Every task offers what the steps, the card and the consumer ask of it."""

import inspect

import pytest

from zoo import tasks
from zoo.reading import registry

FUNCTIONS = {name: value for name, value in vars(tasks.Task).items() if inspect.isfunction(value) and name[0] != "_"}


@pytest.mark.parametrize("name", sorted(registry.modules("zoo.tasks")))
def test_a_task_has_every_member_with_the_same_arguments(name: str) -> None:
    task = tasks.find(name)
    for constant in tasks.Task.__annotations__:
        value = getattr(task, constant)
        assert isinstance(value, str), constant
        assert value, constant
    for function, declared in FUNCTIONS.items():
        own = inspect.signature(getattr(task, function)).parameters
        asked = [each for each in inspect.signature(declared).parameters.values() if each.name != "self"]
        assert [each.name for each in own.values()][: len(asked)] == [each.name for each in asked], function
        assert all(each.default is not each.empty for each in list(own.values())[len(asked) :]), function


def test_the_protocol_is_looked_at() -> None:
    assert {"evaluate", "fit", "deployable", "loadable", "predicted"} <= FUNCTIONS.keys()
    assert {"METRIC", "GEOMETRY", "RETURNS"} <= tasks.Task.__annotations__.keys()
