"""What configs/schedules/ may say: how long and how to train."""

from typing import Annotated, Literal

from pydantic import Field

from zoo.config import AboveZero, Config, Fraction, Positive

NotNegative = Annotated[float, Field(ge=0)]


class Optimizer(Config):
    """Arguments of the optimizer; ``lr`` is for the schedule's batch size."""

    type: Literal["SGD", "AdamW"] = "SGD"
    lr: AboveZero
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 0.0


class Decay(Config):
    """From the end of warm-up to the last iteration: the learning rate, from its peak to ``final`` times it.

    ``poly`` is (1 - progress) ** power (Chen et al. 2017); ``linear`` is poly of power 1. The rate first stays at its
    peak until ``flat`` of all iterations are over, warm-up included, and at its final value for the last ``floor`` of
    all of them.
    """

    shape: Literal["cosine", "linear", "poly"] = "cosine"
    final: Fraction = 0.0
    power: AboveZero = 0.9  # of poly
    flat: Fraction = 0.0
    floor: Fraction = 0.0


class Distillation(Config):
    """What the source teaches: ``weight`` of its term in the loss; with 0 it has none.

    Of a classifier and a segmenter by logits (Hinton et al. 2015) at the softmax ``temperature``, where the labels keep
    the rest of the weight; of a detector by what its neck gives, beside its own loss, where there is no temperature.
    With ``by_confidence``, an image's weight is times the probability that the source gives its class: what the source
    does not know it does not teach. Classification only. ``features`` is the weight of a further term: how far what the
    stages end with is from the source's, where shapes agree (Romero et al. 2015).
    """

    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: AboveZero = 2.0
    by_confidence: bool = False
    features: NotNegative = 0.0


class Schedule(Config):
    """How long and how to train: linear warm-up, then decay."""

    description: str
    epochs: Positive
    batch_size: Positive  # images of one step of the optimizer, over all devices and accumulated parts
    optimizer: Optimizer
    decay: Decay = Decay()
    warmup_epochs: NotNegative = 0.0
    label_smoothing: Fraction = 0.0
    max_grad_norm: AboveZero | None = None  # longer gradients, of all weights, are scaled to this
    ema_decay: Fraction | None = None  # exponential moving average of the weights, per iteration
    statistics: Literal["measured", "running"] = "measured"  # of BatchNorm, in what is evaluated and kept
    distillation: Distillation | None = Distillation()  # used where the model has a teacher
    reconstruction_steps: Annotated[int, Field(ge=0)] = 0  # before the training: they fit blocks to the source's
    anneal_epochs: NotNegative = 0.0  # while replaced activations turn from the source's into their replacement
    augmentation: Literal["none", "shift", "crop_flip"] = "none"  # how a part is cropped is the task's
    crop: Positive | None = None  # pixels of a side of what crop_flip leaves; none: the model's input
    base: Positive | None = None  # of the short side, that a segmenter's crop_flip scales; none: as the model's input
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = "none"  # of colours and shapes, by image
    random_erasing: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability that a rectangle of an image is erased
    mixup: NotNegative = 0.0  # alpha of the Beta distribution by which two images are blended; 0: never
    cutmix: NotNegative = 0.0  # as mixup, a rectangle pasted; with both, each batch draws one of the two
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the forward, by automatic mixed precision
    channels_last: bool | None = None  # memory format of the weights while training; none: the task's own
    compile: bool = False  # by torch.compile
    accumulate: Positive = 1  # parts that a batch is split into, whose gradients are summed
    workers: Annotated[int, Field(ge=0)] = 0  # data-loading processes, of each device
    seed: int = 0
