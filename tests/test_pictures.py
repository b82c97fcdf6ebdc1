"""What a model found, as lines, as JSON and drawn: every class has its colour, nothing else is touched."""

import numpy as np
import pytest
from PIL import Image

from zoo.predicting.pictures import BAR, colour, draw_boxes, draw_label, draw_mask
from zoo.predicting.predictions import UNSEEN, Boxes, ClassMask, ClassScores, Finding

LABELS = ("background", "cat", "dog", "cow")
FACTOR = 5  # that an image of 64 pixels is enlarged by
SMALL, LARGE = (64, 48), (400, 300)


def picture(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def enlarged(image: Image.Image, factor: int = FACTOR) -> np.ndarray:
    return pixels(image).repeat(factor, 0).repeat(factor, 1)


def mask() -> np.ndarray:
    classes = np.zeros((SMALL[1], SMALL[0]), np.uint8)
    classes[10:20, 5:30] = 1
    classes[30:40, 20:60] = 3
    classes[:4] = UNSEEN
    return classes


def test_every_class_has_a_colour_of_its_own() -> None:
    colours = np.array([colour(index) for index in range(256)], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2) + np.eye(256) * 1000
    assert distances.min() > 5
    assert distances[:80, :80].min() > 25
    assert distances[:20, :20].min() > 70


def test_a_small_image_is_enlarged_by_a_whole_factor_above_its_bar() -> None:
    image = picture(SMALL)
    before = pixels(image).copy()
    drawn = draw_label(image, ["93.2 %  seven", "4.1 %  one"])
    assert np.array_equal(pixels(image), before)
    assert np.array_equal(pixels(drawn)[: SMALL[1] * FACTOR, : SMALL[0] * FACTOR], enlarged(image))
    bar = pixels(drawn)[SMALL[1] * FACTOR :]
    assert (bar[0] == BAR).all()
    assert bar.max() == 255, "text"
    assert len(bar) > len(pixels(draw_label(image, ["one"]))) - SMALL[1] * FACTOR, "two lines are higher than one"
    assert drawn.tobytes() == draw_label(image, ["93.2 %  seven", "4.1 %  one"]).tobytes()


def test_a_large_image_keeps_its_pixels() -> None:
    image = picture(LARGE)
    assert np.array_equal(pixels(draw_label(image, ["one"]))[: LARGE[1]], pixels(image))
    assert np.array_equal(pixels(draw_label(image, [])), pixels(image))


def test_a_line_wider_than_the_image_widens_the_page_and_an_endless_one_is_cut() -> None:
    narrow = picture((3, 400))
    drawn = draw_label(narrow, ["a name that is wider than this image"])
    assert drawn.width > 100
    columns = np.flatnonzero((pixels(drawn)[400:] != BAR).any((0, 2)))
    assert columns.max() < drawn.width - 1, "all of it is on the page"
    assert draw_label(narrow, ["w" * 10_000]).tobytes() == draw_label(narrow, ["w" * 47 + "…"]).tobytes()
    assert draw_label(narrow, ["a\nb\x1b[2J"]).tobytes() == draw_label(narrow, ["a?b?[2J"]).tobytes()


def test_a_mask_covers_half_and_leaves_background_and_what_was_not_seen() -> None:
    image, classes = picture(SMALL), mask()
    drawn = pixels(draw_mask(image, classes, LABELS))
    shown = drawn[: SMALL[1] * FACTOR : FACTOR, : SMALL[0] * FACTOR : FACTOR].astype(int)
    was = pixels(image).astype(int)
    clear = (classes == 0) | (classes == UNSEEN)
    assert np.array_equal(shown[clear], was[clear])
    for index in (1, 3):
        inside = classes == index
        assert np.abs(shown[inside] * 2 - was[inside] - colour(index)).max() <= 1
    legend = drawn[SMALL[1] * FACTOR :].reshape(-1, 3)
    for index in range(4):
        assert (legend == colour(index)).all(1).any() == (index in (1, 3)), LABELS[index]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask \(64, 48\) for an image \(48, 64\)"):
        draw_mask(picture(SMALL), mask().T, LABELS)


def test_a_mask_of_background_only_has_no_legend() -> None:
    image = picture(SMALL)
    drawn = draw_mask(image, np.zeros((SMALL[1], SMALL[0]), np.uint8), LABELS)
    assert np.array_equal(pixels(drawn), enlarged(image))


@pytest.mark.parametrize(("size", "factor"), [(SMALL, FACTOR), (LARGE, 1)])
def test_a_box_is_framed_where_it_is(size: tuple[int, int], factor: int) -> None:
    image = picture(size)
    left, top, right, bottom = size[0] // 2, size[1] // 2, size[0] - 8, size[1] - 8
    boxes = np.array([[left, top, right, bottom]], np.float32)
    drawn = pixels(draw_boxes(image, boxes, np.array([0.9]), np.array([2]), LABELS))
    assert drawn.shape == (size[1] * factor, size[0] * factor, 3)
    assert (drawn[bottom * factor, left * factor : right * factor] == colour(2)).all()
    assert (drawn[top * factor : bottom * factor, right * factor] == colour(2)).all()
    inside = (slice((top + 4) * factor, (bottom - 4) * factor), slice((left + 4) * factor, (right - 4) * factor))
    assert np.array_equal(drawn[inside], enlarged(image, factor)[inside])
    below = slice((bottom + 1) * factor, None)
    assert np.array_equal(drawn[below], enlarged(image, factor)[below])


def test_the_surest_box_is_on_top_whatever_the_order() -> None:
    image, boxes = picture(LARGE), np.array([[50, 50, 300, 200], [50, 50, 300, 200.0]])
    scores, classes = np.array([0.9, 0.3]), np.array([1, 2])
    drawn = draw_boxes(image, boxes, scores, classes, LABELS)
    assert drawn.getpixel((300, 150)) == colour(1)
    assert drawn.tobytes() == draw_boxes(image, boxes[::-1], scores[::-1], classes[::-1], LABELS).tobytes()


def test_boxes_that_lead_out_of_the_image_are_cut_and_none_is_no_frame() -> None:
    image = picture(LARGE)
    far = np.array([[-50, -50, 10_000, 10_000], [500, 10, 600, 20], [20, 30, 10, 5.0]])
    drawn = draw_boxes(image, far, np.array([0.5, 0.6, 0.7]), np.array([1, 2, 3]), LABELS)
    assert drawn.getpixel((0, 200)) == colour(1)
    assert drawn.getpixel((200, LARGE[1] - 1)) == colour(1)
    assert drawn.size == LARGE
    none = draw_boxes(image, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), LABELS)
    assert np.array_equal(pixels(none), pixels(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (33, 17)])
def test_images_of_every_shape_are_drawn_on(size: tuple[int, int]) -> None:
    image = picture(size)
    ones = np.ones((size[1], size[0]), np.uint8)
    whole = np.array([[0, 0, *size]], float)
    for drawn in (
        draw_label(image, ["one"]),
        draw_mask(image, ones, LABELS),
        draw_boxes(image, whole, np.array([0.5]), np.array([1]), LABELS),
    ):
        assert drawn.mode == "RGB"
        assert max(drawn.size) >= 320


def test_scores_are_told_best_first() -> None:
    prediction = ClassScores(np.array([0.1, 0.6, 0.1, 0.05, 0.05, 0.07, 0.03], np.float32), ("a", "b\x1b", "c"))
    findings = prediction.findings()
    assert [finding.label for finding in findings] == ["b\x1b", "a", "c", "class 5", "class 3"]
    assert str(findings[0]) == " 60.0 %  b?"
    assert findings[1].as_json() == {"label": "a", "score": pytest.approx(0.1)}
    assert prediction.drawn(picture(SMALL)).height > SMALL[1] * FACTOR


def test_shares_are_of_the_pixels_that_were_looked_at() -> None:
    prediction = ClassMask(mask(), LABELS)
    shares = {finding.label: finding.share for finding in prediction.findings()}
    seen = 44 * 64
    assert list(shares) == ["background", "cow", "cat"]
    assert shares == pytest.approx({"cat": 250 / seen, "cow": 400 / seen, "background": (seen - 650) / seen})
    assert ClassMask(np.full((4, 4), UNSEEN, np.uint8), LABELS).findings() == []
    assert np.array_equal(pixels(prediction.drawn(picture(SMALL))), pixels(draw_mask(picture(SMALL), mask(), LABELS)))


def test_boxes_are_told_surest_first_with_their_corners() -> None:
    boxes = np.array([[1, 2, 3.25, 4], [5, 6, 7, 8]], np.float32)
    prediction = Boxes(boxes, np.array([0.25, 0.75]), np.array([1, 2]), LABELS)
    assert prediction.findings() == [
        Finding("dog", 0.75, box=(5, 6, 7, 8)),
        Finding("cat", 0.25, box=(1, 2, 3.25, 4)),
    ]
    assert str(prediction.findings()[1]) == " 25.0 %  cat  1.0 2.0 3.2 4.0"
    assert prediction.findings()[0].as_json() == {"label": "dog", "score": 0.75, "box": (5.0, 6.0, 7.0, 8.0)}
    assert prediction.drawn(picture(LARGE)).size == LARGE
