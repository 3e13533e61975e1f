"""The live page: its content for given rows, and its bounded size."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from src.reporting.live_page import (
    MAX_POINTS,
    LiveRun,
    Moment,
    build_live_page,
    duration,
    thinned,
)
from src.training.history import History

RUN = LiveRun(
    dataset="my photos",
    model="cnn",
    parameters={"lr": "0.01", "augment": "[crop, flip]"},
    steps_per_epoch=20,
    batch_size=32,
    epochs=6,
    steps=120,
)
TRAINING = Moment(
    state="training",
    ended=False,
    seconds=12.0,
    steps_per_second=50.0,
    seconds_left=67.4,
)
FINISHED = TRAINING._replace(state="finished", ended=True)


def step_row(step, loss=0.5, accuracy=0.75, lr="0.01"):
    return [step, -(-step // 20), loss, accuracy, lr, 2.0, 0, "1"]


def epoch_row(epoch, loss=0.25, accuracy=0.875):
    return [epoch, 0.4, 0.8, loss, accuracy, 0.85, 0.7, 0.6, 0.65, 0.95, "0.01"]


HISTORY = History(
    [step_row(10, 2.0), step_row(20, 1.5), step_row(30, 1.0), step_row(40, 0.5)],
    [epoch_row(1, 1.75), epoch_row(2, 0.75)],
)


class Page(HTMLParser):
    """The text of the elements with an id, the cells, the paths, all tags."""

    def __init__(self, history=HISTORY, moment=TRAINING, run=RUN):
        super().__init__()
        self.content = build_live_page(run, history, moment)
        self.tags, self.texts, self.rows = [], [], []
        self.feed(self.content.decode())
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_data(self, data):
        self.texts.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()

    def curves(self):
        """The corners of each curve: [(x, y), ...], in their order on the page."""
        paths = [attrs["d"] for tag, attrs in self.tags if tag == "path"]
        return [
            [
                tuple(map(float, corner.split()))
                for corner in re.split("[MLh]", path)[1:-1]
            ]
            for path in paths
        ]


def test_page_has_the_newest_numbers():
    text = Page().text
    assert "my photos cnn training: step 40 of 120, epoch 2 of 6 updated 20" in text
    assert "training loss 0.5000 accuracy 0.7500" in text
    assert "validation loss, epoch 2 0.7500 accuracy 0.8750" in text
    assert "learning rate 0.01 images per second 1,600 time left 1 min 07 s" in text
    assert "lr 0.01 augment [crop, flip]" in text


def test_table_has_the_rows_of_both_tables_newest_first():
    train = [
        ["40", "2", "0.5000", "0.7500", "", ""],
        ["30", "2", "1.0000", "0.7500", "", ""],
    ]
    assert Page().rows[1:4] == [
        ["40", "2", "0.4000", "0.8000", "0.7500", "0.8750"],
        *train,
    ]


def test_curves_run_from_the_first_to_the_newest_step_and_over_all_values():
    training, validation, *_ = Page().curves()
    # Losses from 2.0 at the top (18) to 0.5 at the bottom (200).
    heights = [18.0, 78.7, 139.3, 200.0]
    assert training == list(zip([100.0, 200.0, 300.0, 400.0], heights, strict=True))
    assert validation == [(200.0, 48.3), (400.0, 169.7)]


def test_losses_that_differ_much_have_a_logarithmic_axis():
    rows = [step_row(10 * n, 10.0**-n) for n in (1, 2, 3, 4)]
    page = Page(History(rows))
    assert [y for _, y in page.curves()[0]] == [18.0, 78.7, 139.3, 200.0]
    assert all(
        f'<text y="{y:.1f}">{label}</text>' in page.content.decode()
        for y, label in [(15, "0.1"), (197, "0.0001")]
    )


def test_a_constant_is_drawn_in_the_middle():
    rows = [step_row(10), step_row(20)]
    for curve in Page(History(rows)).curves():
        assert [y for _, y in curve] == [109.0, 109.0]


def test_values_that_are_missing_or_not_finite_are_not_drawn():
    rows = [step_row(10, 1.0), step_row(20, ""), step_row(30, float("nan"))]
    rows += [step_row(40, float("inf")), step_row(50, 1e200), step_row(60, 2.0)]
    assert [x for x, _ in Page(History(rows)).curves()[0]] == [66.7, 400.0]


def test_page_before_the_first_row():
    page = Page(History(), TRAINING._replace(steps_per_second=None, seconds_left=None))
    assert "training: step 0 of 120, epoch 0 of 6" in page.text
    assert (
        "training loss ... accuracy ... validation loss ... accuracy ..." in page.text
    )
    assert "images per second ... time left ..." in page.text
    assert page.curves() == []


def test_epoch_that_a_limit_ended_early_is_at_its_last_step():
    history = History([step_row(20), step_row(25)], [epoch_row(1), epoch_row(2)])
    assert [row[:2] for row in Page(history).rows[1:3]] == [["25", "2"], ["25", "2"]]


def refreshes(page):
    return [attrs for tag, attrs in page.tags if attrs.get("http-equiv") == "refresh"]


def test_page_reloads_itself_until_the_run_has_ended():
    assert [attrs["content"] for attrs in refreshes(Page())] == ["1"]
    page = Page(moment=FINISHED)
    assert refreshes(page) == []
    assert "finished: step 40 of 120" in page.text
    assert "training took 12 s" in page.text
    assert "script" not in dict(page.tags)


def test_page_needs_no_other_file_and_no_network():
    page = Page()
    assert not [
        attrs for _, attrs in page.tags if {"src", "href", "action"} & attrs.keys()
    ]
    policy = next(
        attrs["content"]
        for _, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "url(" not in page.content.decode()


def test_names_and_reasons_cannot_bring_in_html():
    hostile = "</title><script>alert(1)</script>{{ 7 * 7 }}\ud800"
    run = RUN._replace(dataset=hostile, parameters={"init_from": hostile})
    page = Page(run=run, moment=FINISHED._replace(state=hostile))
    assert [tag for tag, _ in page.tags].count("script") == 0
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize(
    "count", [0, 1, 2, 299, 300, 301, 302, 600, 601, 5000, 123_457]
)
def test_long_curves_are_thinned_at_equal_distances_up_to_the_newest_row(count):
    rows = [[number] for number in range(count)]
    kept = [number for (number,) in thinned(rows)]
    assert len(kept) <= MAX_POINTS + 1
    assert kept[-1:] == [number for (number,) in rows[-1:]]
    assert kept[:1] == [number for (number,) in rows[:1]]
    distances = {after - before for before, after in pairwise(kept[:-1])}
    assert len(distances) <= 1
    assert count > MAX_POINTS or len(kept) == count


def test_size_of_the_page_is_bounded():
    def size(count):
        steps = [step_row(n, 1 / n, 0.123456) for n in range(1, count + 1)]
        return len(
            Page(History(steps, [epoch_row(n) for n in range(1, count)])).content
        )

    assert size(20_000) < 1.5 * size(400) < 100_000


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "..."),
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (127, "2 min 07 s"),
        (3600 + 5 * 60, "1 h 05 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations_are_short(seconds, shown):
    assert duration(seconds) == shown
