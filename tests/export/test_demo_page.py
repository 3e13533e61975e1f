"""The demo page in a real browser, compared with the exported network."""

import base64
import html
import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from src.data.pictures import PicturePolicy, read_pixels
from src.export.demo_page import PLAYER, build_demo, demo_page
from src.export.demo_weights import encode_exact
from src.export.fit_picture import to_input
from src.models.architecture import Architecture
from src.models.build import build_model
from src.sources.digits import load_digits
from tests.helpers.browser import classify_in_page, evaluate, play_in_browser
from tests.helpers.examples import patterned
from tests.helpers.formats import probabilities, untrained
from tests.helpers.graphs import dense_network, graph_and_constants
from tests.helpers.imports import ROOT
from tests.helpers.pictures import KINDS, TURNED, photograph

LARGER_SHAPES = (28, 28, 1), (13, 10, 3)
HOSTILE = [
    "</script><script>window.ran = 1</script>",
    "<b>'\"&amp;</b>",
    "${1}\u2028{{",
]
# Helpers of the scripts below: input events, displayed values, waiting.
TOOLS = """
const byId = (id) => document.getElementById(id);
const settled = () => new Promise((done) => setTimeout(done, 100));
const stroke = async (...places) => {
  const canvas = byId("drawing");
  const box = canvas.getBoundingClientRect();
  places.forEach(([x, y], index) => canvas.dispatchEvent(new PointerEvent(
    index ? "pointermove" : "pointerdown",
    {bubbles: true, pointerId: 7,
     clientX: box.left + x * box.width, clientY: box.top + y * box.height},
  )));
  canvas.dispatchEvent(new PointerEvent("pointerup", {bubbles: true, pointerId: 7}));
  await settled();
};
const carrying = (base64, name) => {
  const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  return transfer;
};
// Not a timer: virtual time would run out while the browser decodes a picture.
const turn = () => new Promise((done) => {
  const {port1, port2} = new MessageChannel();
  port1.onmessage = done;
  port2.postMessage(null);
});
const noted = async () => {
  while (byId("note").hidden && byId("fault").hidden) await turn();
  await settled();
};
const choose = async (base64, name = "picture.png") => {
  byId("file").files = carrying(base64, name).files;
  byId("file").dispatchEvent(new Event("change"));
  await noted();
};
const drop = async (base64) => {
  const dataTransfer = carrying(base64, "picture.png");
  document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer}));
  await noted();
};
const paste = async (base64) => {
  const clipboardData = carrying(base64, "picture.png");
  const event = new ClipboardEvent("paste", {bubbles: true, clipboardData});
  document.body.dispatchEvent(event);
  await noted();
};
const bars = () => [...document.querySelectorAll(".bar")].map(
  (bar) => Number(bar.style.transform.slice("scaleX(".length, -1)));
const seenColours = () => {
  const {width, height} = byId("view");
  const {data} = byId("view").getContext("2d").getImageData(0, 0, width, height);
  return [...data].filter((value, index) => index % 4 < 3);
};
const seen = () => seenColours().filter((value, index) => index % 3 === 0);
await settled();
"""


def write_page(
    folder,
    *,
    shape=(8, 8, 1),
    names=None,
    background=0.0,
    title="A demo",
    policy=None,
):
    """The page of a small network."""
    names = names or list("0123456789")
    graph, constants = dense_network(shape, len(names))
    pictures = policy and policy._asdict()
    page = folder / "demo.html"
    encoded = encode_exact(constants)
    page.write_bytes(
        build_demo(graph, encoded, shape, names, background, title, pictures)
    )
    return page


def digit_images(side):
    """Embedded digits; for a side of 28, enlarged three times, with a margin."""
    images = load_digits(ROOT / "data/raw").test.images[:100]
    if side == 8:
        return images
    return np.pad(images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2), (0, 0)))


def images_of(shape):
    if shape[2] == 1:
        return digit_images(shape[0])
    return patterned(100, seed=2, shape=shape, classes=5).images


def png(pixels, mode=None):
    """A picture in base64."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(buffer, "PNG")
    return json.dumps(base64.b64encode(buffer.getvalue()).decode())


class Mixed(nnx.Module):
    """A network as a user may write it."""

    def __init__(self, classes, rngs):
        self.stem = nnx.Conv(3, 16, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.batch_norm = nnx.BatchNorm(16, rngs=rngs)
        self.depthwise = nnx.Conv(16, 16, (3, 3), feature_group_count=16, rngs=rngs)
        self.layer_norm = nnx.LayerNorm(16, rngs=rngs)
        self.dilated = nnx.Conv(16, 8, (3, 3), kernel_dilation=2, rngs=rngs)
        self.group_norm = nnx.GroupNorm(24, num_groups=4, rngs=rngs)
        self.attention = nnx.Linear(24, 1, rngs=rngs)
        self.output = nnx.Linear(24, classes, rngs=rngs)

    def __call__(self, images):
        hidden = nnx.relu(self.batch_norm(self.stem(images / 255)))
        hidden = nnx.max_pool(hidden, (3, 3), strides=(2, 2), padding="SAME")
        first = nnx.gelu(self.layer_norm(self.depthwise(hidden)) + hidden)
        second = nnx.silu(self.dilated(hidden))
        hidden = self.group_norm(jnp.concatenate([first, second], -1))
        attention = nnx.sigmoid(self.attention(hidden))
        hidden = nnx.gelu(hidden, approximate=False) * attention
        return self.output(hidden.mean((1, 2)))


def built(name, shape):
    """A network with random weights, biases and statistics."""

    def build():
        rngs = nnx.Rngs(params=0)
        if name == "mixed":
            return Mixed(10, rngs)
        size = {"hidden": 16, "dropout": 0.3, "image_shape": shape, "classes": 10}
        return build_model(Architecture(model=name, **size), rngs)

    graphdef, state = nnx.split(nnx.eval_shape(build))  # initial biases would be zero
    rng = np.random.default_rng(1)
    values = [
        (path, leaf.replace(jnp.asarray(random_array(rng, path, leaf.shape))))
        for path, leaf in nnx.to_flat_state(state)
    ]
    model = nnx.merge(graphdef, nnx.from_flat_state(values))
    model.eval()
    return model


def random_array(rng, path, shape):
    """Variances are positive; weights do not let the values grow."""
    if path[-1] == "var":
        return rng.uniform(0.1, 2, shape).astype(np.float32)
    inputs = np.prod(shape[:-1])
    return rng.normal(0, 2 / np.sqrt(max(inputs, 100)), shape).astype(np.float32)


NETWORKS = {
    "mlp": (8, 8, 1),
    "cnn": (28, 28, 1),
    "cnn_max": (13, 10, 3),
    "mixed": (30, 33, 3),
}


class Sharp(nnx.Module):
    """A network whose logits vary as those of a trained network."""

    def __init__(self, model, logits):
        self.model = model
        self.mean = logits.mean(0, keepdims=True)
        self.scale = 2 / logits.std(0).mean()

    def __call__(self, images):
        return (self.model(images) - self.mean) * self.scale


def test_page_gives_the_probabilities_of_the_network(tmp_path):
    """All networks in one browser: starting it takes longer than computing them."""
    graphs, expected, tolerances = [], [], []
    for name, shape in NETWORKS.items():
        model = built(name, shape)
        images = images_of(shape)[:20]
        logits = np.asarray(jax.jit(model)(images))
        sharp = Sharp(model, logits)
        graph, constants = graph_and_constants(sharp, shape)
        graphs.append((graph, encode_exact(constants), images))
        powers = np.exp((logits - sharp.mean) * sharp.scale)
        expected.append(powers / powers.sum(1, keepdims=True))
        tolerances.append(1e-5 * max(1, sharp.scale))  # it scales rounding too
    found = play_in_browser(PLAYER, graphs, tmp_path)
    rows = zip(NETWORKS, found, expected, tolerances, strict=True)
    for name, answers, wanted, tolerance in rows:
        assert len(set(wanted.argmax(1))) > 3, f"{name}: too uniform for a useful test"
        np.testing.assert_allclose(answers, wanted, atol=tolerance, err_msg=name)


def test_page_gives_the_probabilities_within_its_note(tmp_path):
    shape = 13, 10, 3
    trained, test = untrained("cnn", shape), patterned(60, 1, shape)
    expected = probabilities(trained, test.images)
    graph, constants = graph_and_constants(trained.model, shape)
    manifest = {"graph": graph, "input": {"background": 0.0}, "model": {}}
    made = demo_page(trained, manifest, constants, test, expected)
    page = tmp_path / "demo.html"
    page.write_bytes(made.content)
    found = classify_in_page(page, test.images, tmp_path)
    assert made.note.startswith("16-bit weights, max difference ")
    largest = np.abs(found - expected).max()
    assert largest <= 1.05 * float(made.note.split()[-1]) + 1e-6


@pytest.mark.slow
def test_classify_refuses_another_number_of_pixels(tmp_path):
    script = "try { classify([1, 2]); } catch (error) { return error.message; }"
    assert evaluate(write_page(tmp_path), script, tmp_path) == (
        "classify: expected 8 x 8 x 1 = 64 pixels, got 2."
    )


@pytest.mark.slow
def test_bars_follow_the_pen_and_clear_resets_them(tmp_path):
    script = f"""{TOOLS}
    const found = [[bars(), byId("best").textContent]];
    const look = () => found.push([
      bars(), byId("best").textContent, classify(seen()), byId("spoken").textContent]);
    await stroke([0.5, 0.1], [0.5, 0.9]);
    look();
    await stroke([0.2, 0.5], [0.8, 0.5]);
    look();
    byId("clear").click();
    await settled();
    return [...found, [bars(), byId("best").textContent]];
    """
    before, one, two, after = evaluate(write_page(tmp_path), script, tmp_path)
    assert before == after == [[0] * 10, "Nothing drawn"]
    for shown, best, expected, spoken in (one, two):
        assert shown == pytest.approx(expected, abs=1e-5)
        assert best == str(np.argmax(expected))
        assert spoken == f"{best}: {100 * max(expected):.1f} %"
    assert one != two


@pytest.mark.slow
def test_slow_network_answers_when_the_pen_pauses(tmp_path):
    """Until it is measured, a network of large pictures is taken for slow."""
    script = f"""{TOOLS}
    const found = [];
    const look = () => found.push(
      [byId("best").textContent, byId("time").textContent, Math.max(...seen())]);
    look();
    await stroke([0.5, 0.1], [0.5, 0.9]);
    look();
    await new Promise((done) => setTimeout(done, 500));
    look();
    return [found, byId("spoken").textContent];
    """
    page = write_page(tmp_path, shape=(130, 130, 1))
    (before, drawn, after), spoken = evaluate(page, script, tmp_path)
    assert before == ["Nothing drawn", "Predictions update when the pen pauses.", 0]
    assert drawn == ["…", "computing …", 255]
    assert after[0] in list("0123456789")
    assert after[1].startswith("computed in ")
    assert spoken.startswith(f"{after[0]}: ")


@pytest.mark.slow
def test_keys_draw_as_a_pen_does(tmp_path):
    script = f"""{TOOLS}
    const press = (key) => byId("drawing").dispatchEvent(
      new KeyboardEvent("keydown", {{key, bubbles: true}}));
    const found = [];
    for (const keys of [["ArrowUp"], [" ", "ArrowDown", "ArrowDown"], ["Escape"]]) {{
      keys.forEach(press);
      await settled();
      found.push(Math.max(...seen()));
    }}
    return found;
    """
    lifted, drawn, cleared = evaluate(write_page(tmp_path), script, tmp_path)
    assert (lifted, cleared) == (0, 0)
    assert drawn > 100


@pytest.mark.slow
def test_small_drawing_is_enlarged_unless_disabled(tmp_path):
    script = f"""{TOOLS}
    await stroke([0.05, 0.1], [0.05, 0.4]);
    const filling = seen();
    byId("crop").click();
    await settled();
    return [filling, seen()];
    """
    found = evaluate(write_page(tmp_path, background=43.0), script, tmp_path)
    filling, as_drawn = np.array(found).reshape(2, 8, 8)
    assert (filling.max(1) > 90).all()
    np.testing.assert_allclose(filling, filling[:, ::-1], atol=2)
    assert as_drawn[:, 2:].max() == as_drawn[5:].max() == 0
    assert as_drawn[2, 0] > 100


@pytest.mark.slow
def test_drawing_looks_like_the_data(tmp_path):
    script = f"{TOOLS} await stroke([0.5, 0.1], [0.5, 0.9]); return seen();"

    def drawn(background):
        page = write_page(tmp_path, shape=(28, 28, 1), background=background)
        return np.array(evaluate(page, script, tmp_path)).reshape(28, 28)

    dark, bright = drawn(0.0), drawn(255.0)
    np.testing.assert_allclose(dark, 255 - bright, atol=1)
    # As in MNIST: nothing outside the central 20 x 20 pixels.
    assert dark.max() == dark[4:24, 4:24].max() == 255
    assert dark.sum() == dark[4:24, 4:24].sum()
    assert drawn(40.0)[[1, 26], 14].min() > 200


@pytest.mark.slow
def test_drawing_is_centred_by_mass_if_the_data_has_a_margin(tmp_path):
    script = f"{TOOLS} await stroke([0.1, 0.1], [0.3, 0.5], [0.4, 0.5]); return seen();"
    page = write_page(tmp_path, shape=(28, 28, 1))
    seen = np.array(evaluate(page, script, tmp_path)).reshape(28, 28)
    places = np.arange(28) + 0.5
    middle = [seen.sum(axis) @ places / seen.sum() for axis in (0, 1)]
    np.testing.assert_allclose(middle, 14, atol=0.5)
    columns, rows = (np.flatnonzero(seen.sum(axis)) for axis in (0, 1))
    assert abs(columns.mean() + 0.5 - 14) > 1 or abs(rows.mean() + 0.5 - 14) > 1


# Bright border: a network with three channels inverts nothing.
@pytest.mark.slow
@pytest.mark.parametrize(("shape", "edge"), [((8, 8, 1), 191), ((13, 10, 3), 255)])
def test_picture_of_the_right_size_is_unchanged(tmp_path, shape, edge):
    pixels = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = edge, edge, edge, edge
    script = f"""{TOOLS}
    const found = [];
    for (const way of [choose, drop, paste]) {{
      await way({png(pixels.squeeze())});
      found.push([seen(), bars(), byId("note").textContent]);
      byId("clear").click();
      await settled();
    }}
    return [found, classify({pixels.ravel().tolist()})];
    """
    found, expected = evaluate(write_page(tmp_path, shape=shape), script, tmp_path)
    assert len(found) == 3
    for seen, shown, note in found:
        assert seen == pixels[:, :, 0].ravel().tolist()
        assert shown == pytest.approx(expected, abs=1e-6)
        assert "pixel for pixel" in note


def test_picture_of_another_size_is_fitted_with_a_note(tmp_path):
    picture = np.zeros((40, 80))
    picture[:, 40:] = 200
    script = (
        f"{TOOLS} await drop({png(picture)}); return [seen(), byId('note').textContent]"
    )
    seen, note = evaluate(write_page(tmp_path), script, tmp_path)
    expected = np.full((8, 8), 100)  # the mean of the border, above and below
    expected[2:6, :4], expected[2:6, 4:] = 0, 200
    np.testing.assert_array_equal(np.array(seen).reshape(8, 8), expected)
    assert note.replace("\u00d7", "x") == "Resized from 80 x 40 to 8 x 4 pixels."


@pytest.mark.slow
@pytest.mark.parametrize(("background", "border"), [(20.0, 255), (240.0, 0)])
def test_picture_with_the_opposite_background_is_inverted_with_a_note(
    tmp_path, background, border
):
    picture = np.full((32, 32), border)
    picture[8:24, 8:24] = 255 - border
    script = f"""{TOOLS}
    await choose({png(picture)});
    return [seen(), byId("note").textContent];
    """
    page = write_page(tmp_path, background=background)
    seen, note = evaluate(page, script, tmp_path)
    expected = np.full((8, 8), 255 - border)
    expected[2:6, 2:6] = border
    np.testing.assert_array_equal(np.array(seen).reshape(8, 8), expected)
    assert "Inverted" in note


@pytest.mark.slow
@pytest.mark.parametrize(("background", "border"), [(20.0, 255), (240.0, 0)])
def test_picture_of_the_right_size_is_inverted_with_a_note(
    tmp_path, background, border
):
    pixels = np.random.default_rng(6).integers(0, 256, (8, 8))
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = border, border, border, border
    script = f"""{TOOLS}
    await choose({png(pixels)});
    return [seen(), byId("note").textContent];
    """
    page = write_page(tmp_path, background=background)
    seen, note = evaluate(page, script, tmp_path)
    assert seen == (255 - pixels).ravel().tolist()
    data = "bright objects on dark" if border else "dark objects on bright"
    assert note == f"Inverted: training images show {data}."


@pytest.mark.slow
def test_padding_of_a_picture_has_the_mean_colour_of_its_border(tmp_path):
    picture = np.full((20, 40, 3), (200, 100, 40))
    picture[5:15, 10:30] = 255, 0, 255
    script = f"""{TOOLS}
    await choose({png(picture)});
    return seenColours();
    """
    page = write_page(tmp_path, shape=(8, 8, 3))
    seen = np.array(evaluate(page, script, tmp_path)).reshape(8, 8, 3)
    expected = np.full((8, 8, 3), (200, 100, 40))
    expected[3:5, 2:6] = 255, 0, 255
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.slow
def test_padding_of_an_inverted_picture_is_inverted_too(tmp_path):
    picture = np.full((20, 40), 230)
    picture[5:15, 10:30] = 0
    script = f"{TOOLS} await choose({png(picture)}); return seen();"
    seen = np.array(evaluate(write_page(tmp_path), script, tmp_path)).reshape(8, 8)
    np.testing.assert_array_equal(seen[[0, 1, 6, 7]], 25)


@pytest.mark.slow
@pytest.mark.parametrize(("ink", "ground"), [(90, "white"), (200, "black")])
def test_transparent_background_contrasts_with_the_ink(tmp_path, ink, ground):
    picture = np.zeros((8, 8, 4))
    picture[2:4] = ink, ink, ink, 255
    script = f"""{TOOLS}
    await choose({png(picture)});
    const corner = byId("drawing").getContext("2d").getImageData(3, 3, 1, 1).data;
    return [seen(), byId("note").textContent, [...corner]];
    """
    # Of a middling background: nothing is inverted.
    page = write_page(tmp_path, background=128.0)
    seen, note, corner = evaluate(page, script, tmp_path)
    expected = np.full((8, 8), 255 if ground == "white" else 0)
    expected[2:4] = ink
    np.testing.assert_array_equal(np.array(seen).reshape(8, 8), expected)
    assert note == f"Transparent areas filled with {ground}."
    assert corner == ([255] * 4 if ground == "white" else [0, 0, 0, 255])


@pytest.mark.slow
def test_fully_transparent_picture_becomes_white(tmp_path):
    picture = np.zeros((16, 16, 4))
    script = f"""{TOOLS}
    await choose({png(picture)});
    return [seen(), byId("note").textContent];
    """
    seen, note = evaluate(write_page(tmp_path, background=255.0), script, tmp_path)
    assert set(seen) == {255}
    assert "filled with white" in note


@pytest.mark.slow
def test_black_ink_on_transparency_is_classified_like_inverted_ink_on_paper(
    tmp_path,
):
    digit = load_digits(ROOT / "data/raw").test.images[0, :, :, 0]
    large = digit.repeat(5, 0).repeat(5, 1)
    script = f"""{TOOLS}
    const found = [];
    for (const picture of [{ink_png(large)}, {png(large)}]) {{
      await choose(picture);
      found.push([bars(), byId("note").textContent]);
      byId("clear").click();
      await settled();
    }}
    return found;
    """
    (transparent, note), (inverted, _) = evaluate(
        write_page(tmp_path), script, tmp_path
    )
    assert transparent == pytest.approx(inverted, abs=0.02)
    assert "filled with white" in note
    assert "Inverted" in note


def ink_png(opacity):
    """Black ink on a transparent background."""
    picture = np.zeros((*opacity.shape, 4))
    picture[:, :, 3] = opacity
    return png(picture)


def bar(height, width, ground=0):
    """A grey picture with a vertical bar left of the middle."""
    picture = np.full((height, width), ground, np.uint8)
    picture[:, width // 4 : width // 2] = 255 - ground
    return picture


def coloured(height, width):
    """A picture with two colours on black."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[height // 4 : height // 2, 2:-2] = 250, 60, 30
    picture[height // 2 :, width // 2 : -2] = 20, 250, 90
    return picture


def inked(height, width):
    """The same bar as black ink on a transparent background."""
    picture = np.zeros((height, width, 4), np.uint8)
    picture[2:-2, :, 3] = bar(height, width)[2:-2]
    return picture


# Across the bars, sizes shrink by whole numbers: Pillow and the page divide a pixel
# between two others differently.
PICTURES = {
    "own size": bar(8, 8),
    "own size on the opposite ground": np.pad(bar(6, 6), 1, constant_values=255),
    "own size, ink on nothing": inked(8, 8),
    "own size, colours": coloured(8, 8),
    "wide": bar(20, 40),
    "wide on the opposite ground": bar(20, 40, ground=245),
    "half a row too high": bar(25, 80),
    "tall": bar(80, 30),
    "large": digit_images(8)[3, :, :, 0].repeat(10, 0).repeat(10, 1),
    "large, ink on nothing": inked(80, 80),
    "large, colours": coloured(80, 80),
}


@pytest.mark.parametrize(
    "background",
    [0.0, *(pytest.param(value, marks=pytest.mark.slow) for value in (128.0, 255.0))],
)
def test_page_and_predict_prepare_a_picture_alike(tmp_path, background):
    files = [png(pixels) for pixels in PICTURES.values()]
    script = f"""{TOOLS}
    const found = [];
    for (const picture of [{", ".join(files)}]) {{
      await choose(picture);
      found.push(seen());
    }}
    return found;
    """
    page = write_page(tmp_path, background=background)
    found = np.array(evaluate(page, script, tmp_path)).reshape(-1, 8, 8)
    for (name, pixels), seen in zip(PICTURES.items(), found, strict=True):
        picture = Image.fromarray(pixels)
        predicted = to_input(picture, (8, 8, 1), background).image[:, :, 0]
        np.testing.assert_allclose(seen, predicted, atol=2, err_msg=name)


# Networks of picture files: the page follows the policy of prepare.


def pixels_in_page(page, contents, folder):
    """What the page makes of each picture, uint8 `[n, height, width, 3]`."""
    files = [json.dumps(base64.b64encode(each).decode()) for each in contents]
    script = f"""{TOOLS}
    const found = [];
    for (const picture of [{", ".join(files)}]) {{
      await choose(picture);
      if (!byId("fault").hidden) throw new Error(byId("fault").textContent);
      const {{width, height}} = byId("view");
      found.push([height, width, ...seenColours()]);
    }}
    return found;
    """
    found = evaluate(page, script, folder)
    return [np.array(row[2:]).reshape(row[0], row[1], 3) for row in found]


POLICIES = [
    PicturePolicy((16, 12), "pad", 3, "white"),
    pytest.param(PicturePolicy((12, 16), "crop", 1, "black"), marks=pytest.mark.slow),
    pytest.param(PicturePolicy((7, 9), "stretch", 3, "white"), marks=pytest.mark.slow),
]
IN_BROWSERS = [name for name in KINDS if "TIFF" not in name]


@pytest.mark.parametrize("policy", POLICIES)
def test_page_fits_pictures_by_the_policy(tmp_path, policy):
    """Lossless kinds within 2 of 255, JPEG and AVIF within 12."""
    contents = [KINDS[name].content() for name in IN_BROWSERS]
    large = Image.fromarray(photograph(300, 500))
    contents.append(encoded(large, "PNG"))
    contents.append(encoded(large, "JPEG", quality=90))
    shape = (*policy.size, policy.channels)
    page = write_page(tmp_path, shape=shape, policy=policy)
    found = pixels_in_page(page, contents, tmp_path)
    names = [*IN_BROWSERS, "large PNG", "large JPEG"]
    for name, content, seen in zip(names, contents, found, strict=True):
        expected = read_pixels(content, policy).repeat(3 // policy.channels, 2)
        lossy = any(kind in name for kind in ("JPEG", "JFIF", "AVIF"))
        limit = 12 if lossy else 2
        np.testing.assert_allclose(seen, expected, atol=limit, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["JPEG RGB", "PNG RGB"])
def test_page_turns_pictures_by_their_orientation(tmp_path, name):
    policy = PicturePolicy((14, 14), "pad", 3, "white")
    contents = [KINDS[name].content(orientation) for orientation in TURNED]
    page = write_page(tmp_path, shape=(14, 14, 3), policy=policy)
    found = pixels_in_page(page, contents, tmp_path)
    for content, seen in zip(contents, found, strict=True):
        expected = read_pixels(content, policy)
        np.testing.assert_allclose(seen, expected, atol=12 if "J" in name else 2)


def test_page_of_a_policy_inverts_nothing(tmp_path):
    """A white border would be inverted for a network of bright digits on black."""
    policy = PicturePolicy((8, 8), "pad", 1, "white")
    page = write_page(tmp_path, policy=policy, background=0.0)
    pixels = np.pad(bar(6, 6), 1, constant_values=255)
    content = encoded(Image.fromarray(pixels), "PNG")
    (found,) = pixels_in_page(page, [content], tmp_path)
    np.testing.assert_array_equal(found[:, :, 0], pixels)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_page_of_photographs_has_no_pen(tmp_path, channels):
    policy = PicturePolicy((8, 8), "pad", channels, "white")
    page = write_page(tmp_path, shape=(8, 8, channels), policy=policy)
    script = f"""{TOOLS}
    await stroke([0.5, 0.1], [0.5, 0.9]);
    return [Math.max(...bars()) > 0, byId("choice").hidden, byId("keys").hidden];
    """
    found = evaluate(page, script, tmp_path)
    assert found == ([True, False, False] if channels == 1 else [False, True, True])


def encoded(picture, format, **options):
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.slow
def test_file_that_is_not_a_picture_is_named_until_the_next_file(tmp_path):
    good = png(patterned(1, seed=5).images[0, :, :, 0])
    script = f"""{TOOLS}
    await choose(btoa("no picture"), "<b>notes.txt");
    const found = [byId("fault").hidden, byId("fault").textContent, bars()];
    await choose({good});
    return [...found, byId("fault").hidden, Math.max(...bars()) > 0];
    """
    assert evaluate(write_page(tmp_path), script, tmp_path) == [
        False,
        "“<b>notes.txt” cannot be read as a picture. "
        "Choose a PNG, JPEG, WebP, GIF, BMP or AVIF file.",
        [0] * 10,
        True,
        True,
    ]


def test_hostile_names_are_shown_as_text_and_never_run(tmp_path):
    script = f"""{TOOLS}
    await stroke([0.5, 0.1], [0.5, 0.9]);
    const names = [...document.querySelectorAll(".name")];
    return [names.map((name) => name.textContent), document.title, window.ran ?? null,
      byId("title").textContent, byId("best").textContent];
    """
    page = write_page(tmp_path, names=HOSTILE, title=HOSTILE[0])
    names, title, ran, heading, best = evaluate(page, script, tmp_path)
    assert names == HOSTILE
    assert title == heading == HOSTILE[0]
    assert best in HOSTILE
    assert ran is None


@pytest.mark.slow
def test_page_makes_no_requests(tmp_path):
    page = write_page(tmp_path)
    # Base64 has any letters after slashes.
    text = re.sub(r'"(?:float32|int16|scales)": "[^"]*"', "", page.read_text())
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|\bimport\b", text)
    targets = re.findall(r"""\b(?:(?:src|href)=|url\()["']?([^"')]*)""", text)
    assert [target for target in targets if target != "data:,"] == []
    script = f"""{TOOLS}
    await choose({png(np.zeros((9, 9)))});
    return performance.getEntriesByType("resource").map((entry) => entry.name);
    """
    assert evaluate(page, script, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 50])
def test_page_is_no_wider_than_a_phone(tmp_path, count):
    names = [f"class{'_of_a_long_name' * 3} {index}" for index in range(count)]
    page = write_page(tmp_path, names=names, title="Unbroken" * 12)
    # Chromium's window is at least 500 pixels wide.
    phone = tmp_path / "phone.html"
    content = html.escape(page.read_text())
    style = "width: 390px; height: 844px; border: 0"
    phone.write_text(f'<iframe style="{style}" srcdoc="{content}"></iframe>')
    script = """
    const page = document.querySelector("iframe").contentDocument;
    await new Promise((done) => setTimeout(done, 100));
    return [page.documentElement.scrollWidth, page.querySelectorAll("li").length];
    """
    width, rows = evaluate(phone, script, tmp_path)
    assert width <= 390
    assert rows == count


@pytest.mark.slow
def test_long_list_shows_the_most_likely_class_first(tmp_path):
    script = f"""{TOOLS}
    await stroke([0.5, 0.1], [0.5, 0.9]);
    const rows = [...document.querySelectorAll("li")];
    const places = rows.map((row) => row.getBoundingClientRect().top);
    return [places, bars()];
    """
    page = write_page(tmp_path, names=[f"class {index}" for index in range(50)])
    places, shown = evaluate(page, script, tmp_path)
    order = np.argsort(places)
    assert len(set(places)) == 50
    np.testing.assert_allclose(np.array(shown)[order], sorted(shown)[::-1], atol=1e-3)


def test_same_network_gives_the_same_bytes():
    graph, constants = dense_network((8, 8, 1), 10)
    turned = dict(reversed(constants.items()))

    def page(constants):
        encoded = encode_exact(constants)
        names = list("0123456789")
        return build_demo(graph, encoded, (8, 8, 1), names, 43.0, "A demo")

    assert page(constants) == page(turned | {"spare": np.zeros(3)})
