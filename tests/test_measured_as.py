"""How images are fitted when models are measured: whose word counts, and that the release repeats it."""

from small_build import NAME, SmallBuild
from small_datasets import HALF, config

from zoo import measured_as
from zoo.config import Dataset, Evaluation, Preprocessing
from zoo.measured_as import MeasuredAs
from zoo.releases.card import card
from zoo.releases.manifest import Manifest

OWN = Preprocessing(resize=232, size=224, interpolation="bicubic", mean=HALF, std=HALF)


def of_dataset(size: int | None, **changes: object) -> MeasuredAs | None:
    dataset: Dataset = config("imagefolder", **changes)
    return measured_as.by_dataset("tiny", dataset, "crop", size, "full")


def test_published_weights_are_measured_as_their_library_does() -> None:
    how = measured_as.by_library(OWN, "torchvision", "IMAGENET1K_V2", None, "full")
    assert how == MeasuredAs(OWN, "how torchvision evaluates its weights IMAGENET1K_V2")
    assert measured_as.by_library(OWN, "torchvision", "IMAGENET1K_V2", 224, "full") == how


def test_a_profile_that_has_another_size_is_said() -> None:
    how = measured_as.by_library(OWN, "timm", "ra_in1k", 112, "full")
    assert how.preprocessing == OWN.model_copy(update={"resize": 116, "size": 112})
    assert how.words == ("how timm evaluates its weights ra_in1k, at 112 pixels in place of 224 as profile full has it")


def test_what_is_trained_here_is_measured_as_its_dataset_says() -> None:
    evaluation = {"resize": 256, "size": 224, "interpolation": "bicubic"}
    how = of_dataset(None, evaluation=evaluation)
    assert how is not None
    assert how.preprocessing == Preprocessing(
        resize=256, size=224, interpolation="bicubic", mean=HALF, std=HALF, geometry="crop"
    )
    assert how.words == "the evaluation that dataset tiny states"
    smaller = of_dataset(112, evaluation=evaluation)
    assert smaller is not None
    assert (smaller.preprocessing.resize, smaller.preprocessing.size) == (128, 112)
    assert smaller.words == f"{how.words}, at 112 pixels in place of 224 as profile full has it"


def test_without_a_word_of_the_dataset_the_profile_s_size_is_all_there_is() -> None:
    how = of_dataset(64)
    assert how is not None
    assert (how.preprocessing.resize, how.preprocessing.size, how.preprocessing.interpolation) == (64, 64, "bilinear")
    assert how.words == "the size that profile full has, as dataset tiny states no evaluation"
    assert of_dataset(None) is None
    said = of_dataset(None, evaluation=Evaluation(size=48).model_dump())
    assert said is not None
    assert (said.preprocessing.resize, said.preprocessing.size) == (48, 48)


def test_the_card_says_whose_protocol_it_is(small_build: SmallBuild) -> None:
    released = Manifest.model_validate_json((small_build.zoo / "models" / NAME / "v1" / "release.json").read_bytes())
    for words, expected in (("how it is", 1), ("", 0)):
        said = released.model_copy(update={"origin": released.origin.model_copy(update={"measured_as": words})})
        assert card(said).count("Images are fitted as under Use, which is how it is.\n\n") == expected
        assert card(said).count("Images are fitted") == expected
