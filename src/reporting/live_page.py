"""The content of `live/index.html`: a run so far, on one page without other files.

Until the run has ended, the page reloads itself every second. Its size is bounded: of a
long run, some rows are left out.
"""

import math
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, Template

from src.training.history import HISTORY_COLUMNS, STEPS_COLUMNS, History

PAGE_TEMPLATE = Path(__file__).with_name("live_page.html")
QUIET_SECONDS = 5  # after so long without an update, the page says so
MAX_POINTS = 300  # of a curve
TABLE_ROWS = 10
WIDTH, TOP, BOTTOM = 400.0, 18.0, 200.0  # of a drawing, in its own units
TICKS = 5  # on an axis, at most
LOG_RATIO = 100  # losses whose maximum / minimum exceeds this get a log axis
MAX_VALUE = 1e100  # larger values are not drawn

Row = Mapping[str, float]  # numbers by column; `step` is among them
Points = Sequence[tuple[float, float]]  # step and value


class LiveRun(NamedTuple):
    """What does not change while a run trains."""

    dataset: str
    model: str
    parameters: Mapping[str, object]  # the main ones
    steps_per_epoch: int
    batch_size: int
    epochs: int  # if nothing stops training early
    steps: int  # if nothing stops training early


class Moment(NamedTuple):
    """How a run goes at the moment."""

    state: str  # such as "training" and "finished"
    ended: bool
    seconds: float  # since this process began to train
    steps_per_second: float | None  # None: unknown
    seconds_left: float | None  # if nothing stops training early; None: unknown


class Tile(NamedTuple):
    """A number at the top of the page."""

    name: str
    value: str
    note: str = ""


class Curve(NamedTuple):
    """A curve of a chart."""

    name: str
    newest: float
    path: str  # of SVG


class Chart(NamedTuple):
    """Curves over the steps."""

    title: str
    curves: list[Curve]
    ticks: list[tuple[float, str]]  # height in the drawing, and label


def build_live_page(run: LiveRun, history: History, moment: Moment) -> bytes:
    """Renders the page.

    Args:
        run: what does not change.
        history: the rows so far.
        moment: how the run goes.
    """
    steps = step_rows(thinned(history.steps))
    epochs = epoch_rows(thinned(history.epochs), run.steps_per_epoch, history)
    step, now = steps[-1]["step"] if steps else 0, time.time()
    page = page_template().render(
        run=run,
        moment=moment,
        step=int(step),
        epoch=int(steps[-1]["epoch"]) if steps else 0,
        tiles=tiles(run, moment, steps[-1:], epochs[-1:]),
        charts=charts(steps, epochs, step),
        rows=latest_rows(history, run.steps_per_epoch),
        updated=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)),
        milliseconds=int(1000 * now),
        quiet_seconds=QUIET_SECONDS,
        width=WIDTH,
        height=BOTTOM + 2,
    )
    return page.encode(errors="replace")


@cache
def page_template() -> Template:
    """The template of the page, which escapes HTML; compiled once."""
    return Template(
        PAGE_TEMPLATE.read_text("utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def step_rows(rows: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of steps.csv as numbers."""
    return [numbers(STEPS_COLUMNS, row) for row in rows]


def epoch_rows(
    rows: Sequence[Sequence[Any]], steps_per_epoch: int, history: History
) -> list[Row]:
    """Rows of history.csv as numbers, each with the last step of its epoch."""
    # A limit may end the last epoch early.
    newest = history.steps[-1][0] if history.steps else math.inf
    return [
        {"step": min(row[0] * steps_per_epoch, newest), **numbers(HISTORY_COLUMNS, row)}
        for row in rows
    ]


def numbers(columns: Sequence[str], row: Sequence[Any]) -> dict[str, float]:
    """The cells of a row by column, without the empty ones."""
    cells = zip(columns, row, strict=True)
    return {name: float(cell) for name, cell in cells if cell != ""}


def thinned(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """At most `MAX_POINTS` rows at equal distances, and the newest.

    The distance is a power of two, so the points of a curve do not wander.
    """
    count, distance = len(rows), 1
    while count > distance * MAX_POINTS:
        distance *= 2
    kept = list(rows[:count:distance])
    return [*kept, rows[count - 1]] if (count - 1) % distance else kept


def latest_rows(history: History, steps_per_epoch: int) -> list[Row]:
    """The last rows of both tables, the newest first."""
    ended = history.epochs[-TABLE_ROWS:]
    rows = [
        *epoch_rows(ended, steps_per_epoch, history),
        *step_rows(history.steps[-TABLE_ROWS:]),
    ]
    return sorted(rows, key=lambda row: row["step"], reverse=True)[:TABLE_ROWS]


def tiles(
    run: LiveRun, moment: Moment, steps: Sequence[Row], epochs: Sequence[Row]
) -> list[Tile]:
    """The numbers at the top of the page.

    Args:
        run: what does not change.
        moment: how the run goes.
        steps: rows of steps.csv.
        epochs: rows of history.csv.
    """
    step, epoch = (rows[-1] if rows else {} for rows in (steps, epochs))
    rate = moment.steps_per_second
    of_epoch = f", epoch {epoch['epoch']:.0f}" if epoch else ""
    return [
        loss_tile("training loss", step, "train"),
        loss_tile(f"validation loss{of_epoch}", epoch, "validation"),
        Tile("learning rate", number(step.get("lr"), ".3g")),
        Tile("images per second", number(rate and rate * run.batch_size, ",.0f")),
        Tile("training took", duration(moment.seconds))
        if moment.ended
        else Tile("time left", duration(moment.seconds_left)),
    ]


def loss_tile(name: str, row: Row, split: str) -> Tile:
    """The loss of a split, and below it the accuracy."""
    accuracy = number(row.get(f"{split}_accuracy"), ".4f")
    loss = number(row.get(f"{split}_loss"), ".4f")
    return Tile(name, loss, f"accuracy {accuracy}")


def number(value: float | None, form: str) -> str:
    """A formatted number; three dots for one that is not known yet."""
    return "..." if value is None else format(value, form)


def duration(seconds: float | None) -> str:
    """`1 h 05 min`, `2 min 07 s` or `9 s`; three dots if they are unknown."""
    if seconds is None:
        return number(None, "")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def charts(
    steps: Sequence[Row], epochs: Sequence[Row], last_step: float
) -> list[Chart]:
    """Loss, accuracy and learning rate.

    Args:
        steps: rows of steps.csv.
        epochs: rows of history.csv.
        last_step: at the right border.
    """
    both = {
        metric: {
            "training": points(steps, f"train_{metric}"),
            "validation": points(epochs, f"validation_{metric}"),
        }
        for metric in ("loss", "accuracy")
    }
    rate = {"now": points(steps, "lr")}
    return [
        draw_chart("Loss", both["loss"], last_step, may_be_log=True),
        draw_chart("Accuracy", both["accuracy"], last_step),
        draw_chart("Learning rate", rate, last_step),
    ]


def points(rows: Sequence[Row], column: str) -> Points:
    """The steps and values of a column, where there is one that can be drawn."""
    return [
        (row["step"], row[column])
        for row in rows
        if abs(row.get(column, math.nan)) < MAX_VALUE
    ]


def draw_chart(
    title: str,
    curves: Mapping[str, Points],
    last_step: float,
    *,
    may_be_log: bool = False,
) -> Chart:
    """Draws curves on one axis.

    Args:
        title: of the chart.
        curves: by name; an empty one is left out.
        last_step: at the right border.
        may_be_log: whether the axis is logarithmic if the values differ much.
    """
    values = [value for curve in curves.values() for _, value in curve]
    if not values:
        return Chart(title, [], [])
    low, high = min(values), max(values)
    log = may_be_log and low > 0 and high / low > LOG_RATIO
    if log:
        low, high = math.log10(low), math.log10(high)
    elif high - low <= 1e-9 * abs(high):  # a constant: in the middle
        margin = abs(high) / 2 or 1.0
        low, high = low - margin, high + margin

    def place(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    def path(curve: Points) -> str:
        corners = (
            f"{step / last_step * WIDTH:.1f} "
            f"{place(math.log10(value) if log else value):.1f}"
            for step, value in curve
        )
        return "M" + "L".join(corners) + "h0"  # without h0, a single point is invisible

    drawn = [
        Curve(name, curve[-1][1], path(curve))
        for name, curve in curves.items()
        if curve
    ]
    marks = powers_of_ten(low, high) if log else round_numbers(low, high)
    return Chart(title, drawn, [(place(at), label) for at, label in marks])


def round_numbers(low: float, high: float) -> list[tuple[float, str]]:
    """Two to `TICKS` + 1 round numbers in [low, high], with labels."""
    unit = 10.0 ** math.floor(math.log10(high - low))
    sizes = (unit / 5, unit / 2, unit, 2 * unit)
    size = next(size for size in sizes if high - low <= TICKS * size)
    counts = range(math.ceil(low / size), math.floor(high / size) + 1)
    return [(count * size, f"{count * size:.6g}") for count in counts]


def powers_of_ten(low: float, high: float) -> list[tuple[float, str]]:
    """Logarithms of powers of ten in [low, high], with the powers as labels."""
    exponents = range(math.ceil(low), math.floor(high) + 1)
    distance = -(-len(exponents) // TICKS)
    return [(float(at), f"{10.0**at:g}") for at in exponents[::distance]]
