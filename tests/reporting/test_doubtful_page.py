"""The page of doubtful labels: its content, escaping, and layout in a browser."""

import base64
import html
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from src.reporting.doubtful_page import (
    MAX_SIDE,
    DoubtfulLabel,
    DoubtfulSummary,
    build_doubtful_page,
)
from tests.helpers.browser import evaluate, print_to_pdf

SUMMARY = DoubtfulSummary(
    dataset="folder",
    data_path="my-images",
    examples=1234,
    folds=5,
    doubtful=2,
    estimate=7,
    from_files=True,
    table="metrics/doubtful_labels.csv",
)
WORST = DoubtfulLabel(12, "cat/IMG_7.jpg", "cat", "dog", 0.9871, 0.0021)
NEXT = DoubtfulLabel(0, "dog/IMG_1.jpg", "dog", "emu", 0.5, 0.25)
HOSTILE = "<img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"


def images(count, shape=(6, 8, 1)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def page_of(shown=(WORST, NEXT), pixels=None, **changes):
    pixels = images(len(shown)) if pixels is None else pixels
    return build_doubtful_page(SUMMARY._replace(**changes), shown, pixels).decode()


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)

    def pictures(self):
        found = [of["src"] for tag, of in self.tags if tag == "img"]
        return [base64.b64decode(each.split("base64,")[1]) for each in found]


def test_page_names_file_labels_probability_and_quality_worst_first():
    text = Page(page_of()).text
    worst = "file cat/IMG_7.jpg given cat likely dog 98.7 % quality 0.0021"
    after = "file dog/IMG_1.jpg given dog likely emu 50.0 % quality 0.2500"
    assert f"{worst} {after}" in text
    assert "labels estimated to be wrong 7 of 1,234" in text
    assert "labels in doubt 2" in text


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_those_of_the_examples(channels):
    pixels = images(2, (6, 8, channels))
    found = Page(page_of(pixels=pixels)).pictures()
    for png, expected in zip(found, pixels, strict=True):
        decoded = np.asarray(Image.open(io.BytesIO(png)))
        np.testing.assert_array_equal(decoded.reshape(6, 8, channels), expected)


def test_large_pictures_are_shrunk():
    (png,) = Page(page_of([WORST], images(1, (300, 600, 3)))).pictures()
    assert Image.open(io.BytesIO(png)).size == (MAX_SIDE, MAX_SIDE // 2)


def test_page_of_files_tells_how_the_table_is_taken_back():
    text = Page(page_of()).text
    assert "as labels.csv in my-images , and run dvc repro" in text


def test_page_of_arrays_names_rows():
    text = Page(page_of([WORST._replace(file="")], from_files=False)).text
    assert "train, row 12 given cat" in text
    assert "labels.csv" not in text.replace("doubtful_labels.csv", "")


def test_page_without_doubtful_labels_says_so():
    text = Page(page_of([], doubtful=0, estimate=0)).text
    assert "Nothing: every label is the most likely one." in text


def test_names_are_escaped_and_nothing_is_loaded():
    hostile = WORST._replace(file=f"a\n\u202e{HOSTILE}", given=HOSTILE, likely=HOSTILE)
    text = page_of([hostile], data_path=HOSTILE, dataset=HOSTILE)
    page = Page(text)
    assert page.text.count(" ".join(HOSTILE.split())) == 6  # twice with the title
    assert r"a\n\u202e" in page.text
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object"}
    assert not [of for _, of in page.tags if "onerror" in of]
    loaded = [of[key] for _, of in page.tags for key in ("src", "href") if key in of]
    assert all(address.startswith("data:image/png;") for address in loaded)
    assert not re.search(r"url\(|@import", text)


def test_same_labels_give_the_same_bytes():
    assert page_of() == page_of()


def test_page_does_not_scroll_sideways_on_a_phone(tmp_path):
    long = WORST._replace(file=f"{'unbroken' * 20}.jpg", given="name" * 25)
    frame = tmp_path / "frame.html"
    source = html.escape(page_of([long, NEXT] * 10, doubtful=20))
    frame.write_text(f'<iframe width="390" height="800" srcdoc="{source}"></iframe>')
    script = """
    const page = document.querySelector("iframe").contentDocument;
    return {needed: page.documentElement.scrollWidth,
      entries: page.querySelectorAll(".labels li").length,
      pictures: [...page.images].every(each => each.naturalWidth > 0)}"""
    found = evaluate(frame, script, tmp_path)
    assert found.pop("needed") <= 390
    assert found == {"entries": 20, "pictures": True}


@pytest.mark.slow
def test_page_prints_two_columns(tmp_path):
    page = tmp_path / "doubtful.html"
    page.write_text(page_of([WORST, NEXT] * 10, doubtful=20))
    print_to_pdf(page, tmp_path / "doubtful.pdf", tmp_path)
    sheets = re.findall(rb"/Type /Page\b", (tmp_path / "doubtful.pdf").read_bytes())
    assert len(sheets) == 2
