"""Training with mmengine's Runner: data, learning rate, curve and checkpoints.

``zoo.training.runner.train`` is the way in. It is not imported here: reading images needs no mmengine.
"""
