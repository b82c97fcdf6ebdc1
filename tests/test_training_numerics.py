"""Precision, layout, compilation and accumulation: what they change, what they must not, and what is said of them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_training import Loss, Small, fit, images, loss, schedule
from torch import Tensor, nn

from zoo.errors import TrainingDiverged
from zoo.layouts.imagefolder import Images
from zoo.schedule import Distillation
from zoo.training import numerics
from zoo.training.hooks import Pace
from zoo.training.numerics import chosen
from zoo.training.runner import Trained
from zoo.training.stepping import Stepping

CPU, CHANNELS_LAST = torch.device("cpu"), torch.channels_last


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return images(tmp_path_factory.mktemp("numerics") / "images")


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize(("batch_size", "parts"), [(8, 2), (8, 8), (20, 5), (32, 8)])
def test_parts_of_a_batch_make_the_same_step_as_the_whole(
    found: Images, tmp_path: Path, batch_size: int, parts: int
) -> None:
    """20 images in batches of 32 are one of 20, in parts of 3 and 2: they weigh as much as they hold."""
    sizes: list[int] = []

    def counted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        sizes.append(len(batch[1]))
        return loss(model, batch)

    models = [Small(normalised=False).double() for _ in range(2)]
    for model, accumulate in zip(models, (1, parts), strict=True):
        plan = schedule(batch_size=batch_size, accumulate=accumulate, max_grad_norm=0.1, ema_decay=0.9)
        trained = fit(model, found, tmp_path / str(accumulate), plan, objective=counted)
        assert trained.under["accumulate"] == accumulate
    torch.testing.assert_close(weights(models[1]), weights(models[0]), rtol=1e-11, atol=1e-13)
    steps = 3 * max(1, 20 // batch_size)
    assert sum(sizes) == 2 * steps * min(20, batch_size)
    assert len(sizes) > steps * (1 + parts // 2)


def test_learning_rate_and_moving_average_count_steps_and_not_parts(found: Images, tmp_path: Path) -> None:
    rates: dict[int, list[float]] = {}
    counts: dict[int, int] = {}
    for parts in (1, 4):
        from mmengine.hooks import Hook

        class Noted(Hook):  # type: ignore[misc]
            def after_train_iter(
                self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
            ) -> None:
                rates.setdefault(parts, []).append(runner.optim_wrapper.param_groups[0]["lr"])  # noqa: B023

            def after_train(self, runner: Any) -> None:
                (average,) = (hook for hook in runner.hooks if type(hook).__name__ == "EMAHook")
                counts[parts] = int(average.ema_model.steps)  # noqa: B023

        fit(Small(), found, tmp_path / str(parts), schedule(accumulate=parts), hooks=[Noted()])
    assert rates[1] == rates[4]
    assert counts == {1: 6, 4: 6}


def seen_by(objective: Loss, notes: list[torch.dtype]) -> Loss:
    """The loss, with a note of the precision that the first convolution answers in."""

    def watched(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        handle = model.get_submodule("0").register_forward_hook(lambda _m, _i, output: notes.append(output.dtype))
        try:
            return objective(model, batch)
        finally:
            handle.remove()

    return watched


def test_bfloat16_is_the_precision_of_the_forward_alone(found: Images, tmp_path: Path) -> None:
    notes: list[torch.dtype] = []
    exact, mixed = Small(), Small()
    fit(exact, found, tmp_path / "exact", schedule())
    trained = fit(mixed, found, tmp_path / "mixed", schedule(precision="bfloat16"), objective=seen_by(loss, notes))
    assert set(notes) == {torch.bfloat16}
    assert {weight.dtype for weight in mixed.parameters()} == {torch.float32}
    assert (trained.under["precision"], trained.under["fell_back"]) == ("bfloat16", "")
    assert not torch.equal(mixed[0].weight, exact[0].weight)
    torch.testing.assert_close(mixed[0].weight, exact[0].weight, rtol=0.05, atol=0.01)


def test_float16_on_a_cpu_falls_back_with_a_warning_that_the_record_states(found: Images, tmp_path: Path) -> None:
    exact, mixed = Small(), Small()
    fit(exact, found, tmp_path / "exact", schedule())
    with pytest.warns(RuntimeWarning, match=r"precision: float16: float32 instead: on a CPU") as caught:
        trained = fit(mixed, found, tmp_path / "mixed", schedule(precision="float16"))
    assert trained.under["precision"] == "float32"
    assert trained.under["fell_back"] == str(caught[0].message)
    assert all(torch.equal(a, b) for a, b in zip(mixed.parameters(), exact.parameters(), strict=True))


def broken_compiler(call: Callable[..., Any], *args: object, **options: object) -> Callable[..., Any]:
    def compiled(*inputs: object, **keywords: object) -> None:
        call(*inputs, **keywords)  # statistics and random numbers have moved on when it fails
        raise RuntimeError("no compiler\nhere")

    return compiled


def no_bfloat16(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    found = loss(model, batch)
    if torch.is_autocast_enabled("cpu"):
        raise RuntimeError("no kernel for bfloat16")
    return found


@pytest.mark.parametrize(
    ("options", "objective", "said"),
    [
        ({"compile": True}, loss, ["compile: eager instead: no compiler here"]),
        ({"precision": "bfloat16"}, no_bfloat16, ["precision: bfloat16: float32 instead: no kernel for bfloat16"]),
        (
            {"compile": True, "precision": "bfloat16"},
            no_bfloat16,
            [
                "precision: bfloat16: float32 instead: no kernel for bfloat16",
                "compile: eager instead: no compiler here",
            ],
        ),
    ],
)
def test_what_does_not_work_is_given_up_once_and_leaves_no_trace(
    found: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    objective: Loss,
    said: list[str],
) -> None:
    """Dropout's random numbers and BatchNorm's statistics are those of a training that never tried."""
    monkeypatch.setattr(torch, "compile", broken_compiler)
    plain, tried = Small(dropout=0.5), Small(dropout=0.5)
    fit(plain, found, tmp_path / "plain", schedule())
    with pytest.warns(RuntimeWarning) as caught:
        trained = fit(tried, found, tmp_path / "tried", schedule(**options), objective=objective)
    assert [str(each.message) for each in caught] == said
    assert trained.under["fell_back"] == "; ".join(said)
    assert (trained.under["compiled"], trained.under["precision"]) == (False, "float32")
    for name, weight in weights(plain).items():
        assert torch.equal(weight, tried.state_dict()[name]), name


def test_an_error_of_the_loss_itself_is_no_fallback(found: Images, tmp_path: Path) -> None:
    def wrong(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        raise ValueError("a bug")

    with pytest.warns(RuntimeWarning, match="a bug"), pytest.raises(ValueError, match="a bug"):
        fit(Small(), found, tmp_path, schedule(precision="bfloat16"), objective=wrong)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_training_gives_what_an_eager_one_does(found: Images, tmp_path: Path) -> None:
    eager, compiled = Small(), Small()
    fit(eager, found, tmp_path / "eager", schedule(epochs=1))
    trained = fit(compiled, found, tmp_path / "compiled", schedule(epochs=1, compile=True))
    assert (trained.under["compiled"], trained.under["fell_back"]) == (True, "")
    assert compiled._compiled_call_impl is None
    torch.testing.assert_close(weights(compiled), weights(eager), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "own", "used"),
    [
        (None, torch.channels_last, torch.channels_last),
        (None, torch.contiguous_format, torch.contiguous_format),
        (True, torch.channels_last, torch.channels_last),
        (False, torch.channels_last, torch.contiguous_format),
    ],
)
def test_weights_and_images_are_laid_out_as_asked(
    found: Images, tmp_path: Path, asked: bool | None, own: torch.memory_format, used: torch.memory_format
) -> None:
    layouts: list[tuple[bool, bool]] = []

    def watched(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        layouts.append(tuple(x.is_contiguous(memory_format=used) for x in (batch[0], model.get_parameter("0.weight"))))
        return loss(model, batch)

    plan = schedule(epochs=1, channels_last=asked)
    trained = fit(Small(), found, tmp_path, plan, objective=watched, memory_format=own)
    assert set(layouts) == {(True, True)}
    assert trained.under["channels_last"] is (used == torch.channels_last)


def test_channels_last_is_not_forced_on_a_model_that_crashes_with_it() -> None:
    with pytest.warns(RuntimeWarning, match="channels_last: contiguous instead: PyTorch crashes"):
        found = chosen(schedule(channels_last=True), CPU, torch.contiguous_format)
    assert found.memory_format == torch.contiguous_format


@pytest.mark.parametrize(
    ("options", "together", "reason"),
    [
        ({}, 2, "those of all devices"),
        ({"anneal_epochs": 1.0}, 1, "activations change"),
        ({"distillation": Distillation(features=0.5)}, 1, "read by hooks"),
    ],
)
def test_a_forward_that_is_changed_from_outside_is_not_compiled(
    options: dict[str, object], together: int, reason: str
) -> None:
    with pytest.warns(RuntimeWarning, match=f"compile: eager instead: .*{reason}"):
        assert not chosen(schedule(compile=True, **options), CPU, CHANNELS_LAST, together).compiled
    assert chosen(schedule(compile=True), CPU, CHANNELS_LAST).compiled


def test_small_gradients_are_scaled_in_float16_alone() -> None:
    scales = {}
    for precision, dtype in numerics.DTYPES.items():
        scales[precision] = numerics.Numerics(dtype, CHANNELS_LAST, False).scaler(CPU).is_enabled()
    assert scales == {"float32": False, "bfloat16": False, "float16": True}


def test_losses_that_were_not_scaled_are_where_the_training_goes_on() -> None:
    """float16 was given up on one machine, and the training goes on on another."""
    made = []
    for is_scaled in (False, True):
        optimizer = torch.optim.SGD(Small().parameters(), lr=0.1)
        made.append(Stepping(optimizer, schedule(), torch.amp.GradScaler("cpu", enabled=is_scaled)))
    plain, scaled = made
    scaled.load_state_dict(plain.state_dict())
    assert scaled.scaler.is_enabled()
    scaled.scaler.scale(torch.zeros(()))
    before = scaled.scaler.state_dict() | {"scale": 8.0}
    scaled.load_state_dict({**scaled.state_dict(), "scaler": before})
    assert scaled.scaler.get_scale() == 8.0
    plain.load_state_dict(scaled.state_dict())
    assert not plain.scaler.is_enabled()


def test_gradients_that_no_scale_makes_finite_stop_the_training() -> None:
    """The loss is finite, each step is left out: without this the training would end as it began."""
    model = nn.Linear(2, 1)
    model.weight.register_hook(lambda gradient: gradient * torch.nan)
    stepping = Stepping(torch.optim.SGD(model.parameters(), lr=0.1), schedule(), torch.amp.GradScaler("cpu"))
    runner = SimpleNamespace(epoch=0, optim_wrapper=stepping)
    before = model.weight.detach().clone()
    pace = Pace(schedule())

    def step(index: int) -> None:
        loss = model(torch.ones(1, 2)).sum()
        stepping.backward(loss)
        stepping.step()
        pace.after_train_iter(runner, index, outputs={"loss": loss.detach()})

    for index in range(26):  # from a scale of 2^16 to 2^-10
        step(index)
    with pytest.raises(TrainingDiverged, match=r"^epoch 1, iteration 27: gradients are not finite however .*; lower "):
        step(26)
    assert torch.equal(model.weight, before)


def test_a_trained_model_says_under_which_conditions(found: Images, tmp_path: Path) -> None:
    trained: Trained = fit(Small(), found, tmp_path, schedule(epochs=1))
    assert trained.under == {
        "batch_size": 8,
        "accumulate": 1,
        "learning_rate": 0.05,
        "precision": "float32",
        "channels_last": True,
        "compiled": False,
        "fell_back": "",
    }
