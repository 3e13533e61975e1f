"""The pictures of heat maps, checked through matplotlib's figure objects and pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from src.reporting.heat_map_plots import (
    HEAT,
    OPACITY,
    Explained,
    draw_explanation,
    draw_heat_maps,
    explanation_figure,
    heat_maps_figure,
)


def explained(channels=1, heat=None, answer="shirt$x$", confidence=0.97):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 12, channels), dtype=np.uint8)
    heat = np.eye(2, 3, dtype=np.float32) if heat is None else heat
    return Explained(image, heat, answer, confidence)


def pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"), int)


def redness(png):
    return (pixels(png)[:, :, 0] - pixels(png)[:, :, 2]).max()


def test_each_image_has_its_answer_and_its_row():
    figure = heat_maps_figure([explained(), explained(3)], [7, 123])
    drawn = [axes for axes in figure.axes if axes.images]
    titles = [axes.get_title() for axes in drawn]
    assert titles == ["shirt$x$ 97%\n(#7)", "shirt$x$ 97%\n(#123)"]


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_covers_the_whole_image(channels):
    figure = heat_maps_figure([explained(channels)], [0])
    image, heat = figure.axes[0].images
    assert image.get_extent() == heat.get_extent()
    colours = heat.get_array()
    np.testing.assert_allclose(colours[0, 0], (*HEAT, OPACITY), rtol=1e-6)
    assert colours[0, 1, 3] == 0  # transparent


def test_colour_image_is_drawn_in_its_brightness():
    each = explained(3)
    figure = heat_maps_figure([each], [0])
    found = figure.axes[0].images[0].get_array()
    expected = np.asarray(Image.fromarray(each.image).convert("L"), float)
    np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("value", [0, 255])
def test_heat_is_red_on_black_and_on_white(value):
    image = np.full((8, 12, 1), value, np.uint8)
    hot = explained()._replace(image=image)
    assert redness(draw_heat_maps([hot], [0])) > 100
    cold = hot._replace(heat=np.zeros((2, 3), np.float32))
    assert redness(draw_heat_maps([cold], [0])) == 0


def test_no_mistakes_still_make_a_picture():
    assert pixels(draw_heat_maps([], [])).shape[2] == 3


def test_explanation_shows_the_image_beside_the_heat():
    each = explained(3)
    figure = explanation_figure(each)
    left, right = figure.axes
    np.testing.assert_array_equal(left.images[0].get_array(), each.image)
    assert len(right.images) == 2
    assert figure.get_suptitle() == "shirt$x$ 97.0%"
    assert draw_explanation(each) == draw_explanation(each)


def test_long_class_name_is_shortened():
    figure = explanation_figure(explained(answer="a" * 100))
    assert len(figure.get_suptitle()) < 50
