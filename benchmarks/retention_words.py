"""What docs/retention.md says beside its figures."""

from retention_trials import LONG_EPOCHS, LONG_RATE, LONG_STEPS
from retention_trials import RECONSTRUCTION_STEPS as STEPS

INTRODUCTION = f"""\
# What surgery and training keep of a model's accuracy

Written by `python benchmarks/retention.py --report`; `python benchmarks/retention.py` measures, and goes on with what
is missing. The images are digit scenes, a stand-in: what is compared here are two ways of doing the same thing to the
same models for the same number of epochs, not accuracies on real data.

- **Source**: one for each model, as a published model is one, trained here from scratch as the demo profile trains it.
  The seed decides on the order of the images, their augmentation, and which of them a warm start is measured on; the
  images are always the same.
- **(a) bare replacement**: every layer that the rules replace gives way to its replacement, and nothing is measured: a
  removed gate is an identity, BatchNorm keeps the source's statistics or, where it is new, those it is made with. Then
  plain training on the labels, from the source's other weights; BatchNorm ends with its running averages, as anywhere,
  which the schedule's moving average of the weights averages once more.
  A convolution that can be split exactly is split exactly here too, since that is no option.
- **(b) this project's path**: surgery as recipe and schedule have it (mean gates folded into weights that keep their
  length, new BatchNorm fitted, its statistics measured anew; of classifiers, blocks fitted to the source's in
  {STEPS} steps; all on training images without labels), then the same training with the source as teacher: of its
  logits or, for a detector, of what its neck gives; then BatchNorm's statistics are measured anew, which is part of the
  path.
- **(a), measured anew**: the same weights as (a)'s, but for BatchNorm's statistics, which are measured as (b)'s are. It
  is no arm of the goals. It shows how much of what parts (a) from (b) are statistics alone, which take seconds: running
  averages lag behind the weights of a short training, and the more the smaller a BatchNorm's momentum is (0.01 in
  torchvision's MobileNetV3, 0.03 in YOLOv8, 0.1 in the others).
- **Equal in both**: the profile's fine-tuning schedule (optimizer, learning rate, warm-up, moving average of the
  weights), the augmentation, the seeds and the number of epochs. Each number of epochs is a training of its own, whose
  learning rate falls to zero at its end.
- **Not equal** is the time. The teacher's forward comes on top in (b), and {STEPS} steps of reconstruction take about
  as long as an epoch. So compare (b) with (a) after another epoch as well, and see what (b) is without reconstruction;
  what is called untrained here has had no label and no epoch.
- **Measured** are the weights after the last epoch, none chosen by their accuracy, by the task's own metric on all
  validation images. Points lost are the source's accuracy minus the model's. They are negative where a model gained:
  its epochs come on top of the source's. Guessing one of ten classes is right in 10 %.

Figures are means over the seeds, in brackets the smallest and the largest.

## From sources as the demo profile trains them

Their few epochs leave them with much to learn: what trains on gains by that, whatever surgery has cost, and what has
trained for longer than they did knows more than they can teach.
"""

_LONG = ", ".join(f"{model} {epochs}" for model, epochs in LONG_EPOCHS.items())
LONG = f"""\
## From sources trained for longer

A published model has learnt what its training had to give. These sources are nearer to that, though EfficientNet-B0
still gains by more of it. Their epochs:
{_LONG}.
What starts from them is trained at {LONG_RATE:g} of the rate that they were, and reconstruction of classifiers has
{LONG_STEPS} steps, as the full profile fine-tunes published weights. The rest is as above.
"""
