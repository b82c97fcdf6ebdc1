"""The pipeline: `doit list` shows its tasks, `doit build` runs all, `doit train:MODEL` one with what it needs.

`doit -n 2 build` does two steps at once, `doit build profile=full` uses the real data.
"""

from pathlib import Path

from zoo.building import pipeline

_pipeline = pipeline.load(Path(__file__).parent)
DOIT_CONFIG = _pipeline.doit_config


def task_data():
    """make or verify the datasets"""
    return _pipeline.step("data")


def task_baseline():
    """the source models: published weights, or trained where the profile has none; their accuracy"""
    return _pipeline.step("baseline")


def task_surgery():
    """replace layers that the target runs badly: plan, edits and refusals, initial weights"""
    return _pipeline.step("surgery")


def task_check():
    """prove the lite models sound, and lint them against their targets"""
    return _pipeline.step("check")


def task_train():
    """fine-tune the lite models, their source models as teachers"""
    return _pipeline.step("train")


def task_export():
    """write ONNX, compare it with PyTorch, measure costs and latency"""
    return _pipeline.step("export")


def task_release():
    """gather weights, ONNX, plan and card into an immutable version"""
    return _pipeline.step("release")


def task_index():
    """add the releases to the zoo's index"""
    return _pipeline.step("index")


def task_build():
    """all steps of all models, or of one: build:MODEL"""
    return _pipeline.all_steps()


def task_starter():
    """all steps of the profile's starter models"""
    return _pipeline.starter()
