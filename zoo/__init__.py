"""A zoo of lite vision models: find them by name, get their files, load them.

    import zoo

    zoo.list_models("mobilenet*")
    model = zoo.load("mobilenetv3_small_100_lite")  # eval mode; model.preprocess takes an image
    onnx = zoo.get("mobilenetv3_small_100_lite").file("onnx")

Where the zoo is: the argument ``index``, else $ZOO_INDEX, else artifacts/demo/zoo of the working directory. What can
go wrong is in ``zoo.errors``.
"""

from zoo.releases.consumer import Release, get, list_models, load

__all__ = ["Release", "get", "list_models", "load"]
