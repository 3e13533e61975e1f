"""Folders of pictures: reading files of all kinds and sizes, and broken ones."""

import hashlib
import io
import json
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from src import paths
from src.data.pictures import PicturePolicy, read_pixels
from src.errors import BrokenFilesError, DataError
from src.sources.folder import load_folder
from src.sources.read_pictures import in_order
from tests.helpers.picture_folders import OPTIONS, write_pictures
from tests.helpers.running import exit_code

SIZED = OPTIONS._replace(size=8)


@pytest.fixture
def images(tmp_path):
    """Grey pictures: two classes, five for training and two to test each."""
    names = [
        f"{split}/{name}/{index}.png"
        for split, count in (("train", 5), ("test", 2))
        for name in ("cat", "dog")
        for index in range(count)
    ]
    return write_pictures(tmp_path / "mine", *names)


def save(folder, name, mode="RGB", size=(7, 6), **options):
    """Saves a plain picture of some mode as the file's suffix says."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, options.pop("color", 0)).save(path, **options)
    return path


def read(folder, policy):
    """All pictures of the splits, read one by one."""
    return [
        read_pixels(folder / origin.file, policy)
        for rows in load_folder(folder, SIZED).origins.values()
        for origin in rows
    ]


def test_folder_gives_its_images_and_names(images):
    found = load_folder(images, OPTIONS)
    assert found.class_names == ["cat", "dog"]
    assert found.train.images.shape == (10, 6, 7, 1)
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    pixels = np.asarray(Image.open(images / "train/dog/3.png"))
    np.testing.assert_array_equal(found.train.images[8, :, :, 0], pixels)
    assert found.pictures == PicturePolicy((6, 7), "pad", 1, "white")


def test_origins_tell_file_digest_and_size(images):
    turned = save(images, "test/dog/9.jpg", size=(40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(turned, exif=exif)
    origins = load_folder(images, SIZED).origins
    assert [each.file for each in origins["test"]] == [
        *("test/cat/0.png", "test/cat/1.png"),
        *("test/dog/0.png", "test/dog/1.png", "test/dog/9.jpg"),
    ]
    last = origins["test"][-1]
    assert last.digest == hashlib.sha256(turned.read_bytes()).hexdigest()
    assert (last.width, last.height) == (20, 40)
    assert len(origins["train"]) == 10


def test_pictures_of_all_kinds_are_read_as_predict_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8))
    for name, picture in {
        "a.png": colours,
        "b.JPG": colours,
        "c.jfif": colours,
        "d.webp": colours,
        "e.bmp": colours,
        "f.gif": colours,
        "g.tiff": colours,
        "h.png": colours.convert("RGBA"),
        "i.png": colours.quantize(16),
        "j.png": colours.convert("LA"),
        "k.png": Image.fromarray(rng.integers(0, 65536, (9, 9), dtype=np.uint16)),
        "l.jpeg": colours.convert("CMYK"),
        "m.png": colours.convert("1"),
        "n.png": colours.convert("L"),
    }.items():
        path = tmp_path / "train" / ("x" if name < "h" else "y") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kinds = {".jfif": "JPEG", ".jpg": "JPEG"}
        picture.save(path, format=kinds.get(path.suffix.lower()))
    source = load_folder(tmp_path, SIZED)
    assert len(source.train.labels) == 14
    assert source.pictures.channels == 3
    expected = read(tmp_path, source.pictures)
    np.testing.assert_array_equal(source.train.images, expected)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("background", ["white", "black"])
def test_options_decide_how_pictures_are_read(images, fit, background):
    save(images, "train/cat/7.png", "RGBA", (30, 9))
    options = SIZED._replace(
        size=(9, 12), fit=fit, background=background, channels="rgb"
    )
    source = load_folder(images, options)
    assert source.pictures == PicturePolicy((9, 12), fit, 3, background)
    expected = [
        read_pixels(images / each.file, source.pictures)
        for each in source.origins["train"]
    ]
    np.testing.assert_array_equal(source.train.images, expected)


def test_auto_reads_pictures_without_colours_as_grey(tmp_path):
    """As if grey had been asked for: also from RGB files of grey pictures."""
    rng = np.random.default_rng(1)
    for index in range(6):
        grey = Image.fromarray(rng.integers(0, 256, (19, 17), dtype=np.uint8))
        path = tmp_path / f"train/{'ab'[index % 2]}/{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey.convert("RGB" if index > 2 else "L").save(path, quality=60)
    auto, grey = (
        load_folder(tmp_path, SIZED._replace(channels=name))
        for name in ("auto", "grey")
    )
    assert auto.pictures == grey.pictures
    assert auto.pictures.channels == 1
    np.testing.assert_array_equal(auto.train.images, grey.train.images)
    expected = read(tmp_path, auto.pictures)
    np.testing.assert_array_equal(auto.train.images, expected)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_one_picture_with_colours_in_any_split_makes_all_rgb(images, split):
    write_pictures(images, "val/cat/0.png")
    save(images, f"{split}/cat/colour.png", color=(255, 0, 0))
    source = load_folder(images, OPTIONS)
    for examples in (source.train, source.validation, source.test):
        assert examples.images.shape[1:] == (6, 7, 3)


def test_grey_and_rgb_decide_by_themselves(images):
    save(images, "train/cat/colour.png", color=(255, 0, 0))
    assert load_folder(images, OPTIONS._replace(channels="grey")).pictures.channels == 1
    shutil.rmtree(images / "train/cat")
    write_pictures(images, "train/cat/0.png")
    assert load_folder(images, OPTIONS._replace(channels="rgb")).pictures.channels == 3


def test_many_grey_pictures_go_through_a_file(images, monkeypatch):
    expected = load_folder(images, OPTIONS).train.images
    monkeypatch.chdir(images)
    monkeypatch.setattr("src.data.lazy_images.MAX_IN_MEMORY", 0)
    found = load_folder(images, OPTIONS).train.images
    np.testing.assert_array_equal(found[:], expected)


def test_several_sizes_are_refused_with_a_size_that_works(images):
    for index, side in enumerate((9, 9, 300)):
        save(images, f"train/dog/{index + 7}.png", size=(side, side))
    with pytest.raises(DataError) as error:
        load_folder(images, OPTIONS)
    message = str(error.value)
    assert "dog/7.png: expected pictures of one size, 7 x 6 as in" in message
    assert "cat/0.png, found 9 x 9, 3 sizes in all" in message
    assert message.endswith("Set image_size: 7 in params.yaml.")
    source = load_folder(images, OPTIONS._replace(size=7))
    assert source.train.images.shape == (13, 7, 7, 1)


def test_turned_pictures_have_the_size_that_viewers_show(images):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("L", (6, 7)).save(images / "train/cat/8.jpg", exif=exif)
    assert load_folder(images, OPTIONS).train.images.shape == (11, 6, 7, 1)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_pictures_are_turned_as_viewers_turn_them(images, kind):
    from PIL import ImageOps

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.new("L", (24, 16))
        picture.paste(255, (0, 0, 8, 8))
        path = images / f"train/cat/z{orientation}.{kind}"
        picture.save(path, exif=exif)
    source = load_folder(images, OPTIONS._replace(size=24, fit="stretch"))
    for image, origin in zip(source.train.images, source.origins["train"], strict=True):
        if "z" in origin.file:
            # From bytes: from a path, Pillow 13 garbles turned TIFF pictures.
            content = io.BytesIO((images / origin.file).read_bytes())
            shown = ImageOps.exif_transpose(Image.open(content))
            assert (origin.width, origin.height) == shown.size
            resized = shown.convert("L").resize((24, 24), Image.Resampling.BILINEAR)
            difference = image[..., 0].astype(int) - np.asarray(resized)
            assert np.abs(difference).mean() < 3


def test_huge_pictures_of_one_size_are_refused(tmp_path):
    for name in ("a", "b"):
        save(tmp_path, f"train/{name}/0.png", "1", (4097, 4096))
    with pytest.raises(DataError, match=r"found 4097 x 4096\. Set image_size: 224"):
        load_folder(tmp_path, OPTIONS)


def break_files(folder, count):
    for index in range(count):
        (folder / f"train/cat/broken{index:02}.png").write_bytes(b"x" * 99)


def test_one_broken_file_is_named(images):
    (images / "train/cat/2.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    with pytest.raises(BrokenFilesError) as error:
        load_folder(images, OPTIONS)
    assert re.fullmatch(
        f"{images}/train/cat/2.png: expected PNG, JPEG, .* or HEIC, found .+. Replace "
        "or remove it, or set on_broken: skip, which lists it in .*/files.csv.",
        str(error.value),
    )
    assert error.value.lines == ()


@pytest.mark.parametrize("size", [None, 8])
def test_all_broken_files_are_counted_and_the_first_ten_named(images, size):
    break_files(images, 12)
    cut = images / "test/dog/1.png"
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(BrokenFilesError) as error:
        load_folder(images, OPTIONS._replace(size=size))
    assert "expected 26 pictures that can be read, found 13 broken" in str(error.value)
    assert [line.split(":")[0] for line in error.value.lines[:10]] == [
        f"train/cat/broken{index:02}.png" for index in range(10)
    ]
    assert error.value.lines[10:] == ["and 3 more"]


def test_broken_files_are_skipped_on_request(images):
    expected = load_folder(images, OPTIONS)
    break_files(images, 12)
    found = load_folder(images, OPTIONS._replace(on_broken="skip"))
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    np.testing.assert_array_equal(found.train.labels, expected.train.labels)
    assert found.origins == expected.origins
    assert [each.file for each in found.passed_over] == [
        f"train/cat/broken{index:02}.png" for index in range(12)
    ]
    assert {each.reason.split(":")[0] for each in found.passed_over} == {"broken"}


def test_a_split_without_a_picture_that_can_be_read_is_refused(images):
    for path in images.glob("test/*/*"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"A split would be empty: replace them\."):
        load_folder(images, OPTIONS._replace(on_broken="skip"))
    for path in list(images.glob("test/*/*"))[1:]:
        path.unlink()
    with pytest.raises(DataError, match=r"A split would be empty: replace it\."):
        load_folder(images, OPTIONS._replace(on_broken="skip"))


def test_pictures_do_not_depend_on_the_number_of_cores(images, monkeypatch):
    save(images, "train/cat/colour.jpg", size=(90, 70), color=(200, 10, 30))
    found = []
    for cores in (1, 2, 13):
        monkeypatch.setattr(
            "src.sources.read_pictures.available_cores", lambda n=cores: range(n)
        )
        source = load_folder(images, SIZED)
        found.append((source.train.images.tobytes(), source.origins))
    assert found[0] == found[1] == found[2]


def test_results_come_in_order_and_few_are_made_ahead(monkeypatch):
    monkeypatch.setattr("src.sources.read_pictures.available_cores", lambda: range(2))
    asked = []

    def items():
        for number in range(100):
            asked.append(number)
            yield number

    results = in_order(lambda number: number**2, items())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(asked) <= 3 * 4  # a chunk of four for each thread, and one more
    assert list(results) == [number**2 for number in range(3, 100)]


def test_warnings_and_messages_of_pillow_do_not_reach_the_terminal(images, capfd):
    palette = Image.new("P", (7, 6))
    palette.save(images / "train/cat/7.png", transparency=b"\x00\x80")
    Image.new("L", (7, 6)).save(images / "train/cat/8.tif")
    broken = images / "train/cat/8.tif"
    broken.write_bytes(broken.read_bytes()[:-3])
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        load_folder(images, OPTIONS._replace(on_broken="skip"))
    assert seen == []
    assert capfd.readouterr() == ("", "")


class Terminal:
    """A stderr that is a terminal."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_progress_bar_appears_after_the_first_second(images, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    load_folder(images, OPTIONS)
    assert "pictures" not in terminal.text
    monkeypatch.setattr("src.runtime.progress.DELAY", 0)
    load_folder(images, OPTIONS)
    assert "pictures:   0%" in terminal.text


@pytest.fixture
def prepare(images, write_params, monkeypatch, capsys):
    """Runs the stage; returns its exit code and what it prints."""

    def run(**changes):
        given = {"dataset": "folder", "data_path": images, "validation_fraction": 0.4}
        write_params(**given | changes)
        monkeypatch.chdir(images.parent)
        code = exit_code("prepare", monkeypatch)
        return code, *capsys.readouterr()

    return run


def test_own_pictures_go_through_the_stage(prepare, images):
    code, out, err = prepare()
    assert (code, err) == (0, "")
    assert "folder: 6 train, 4 validation, 4 test images of 6 x 7 x 1" in out
    assert "train/validation/test images: cat (3/2/2), dog (3/2/2)" in out


def test_manifest_records_how_pictures_are_read(prepare):
    prepare(image_size="[9, 12]", image_fit="crop", background="black")
    assert json.loads(paths.MANIFEST.read_text())["pictures"] == {
        "size": [9, 12],
        "fit": "crop",
        "channels": 1,
        "background": "black",
    }


def test_stage_says_what_was_passed_over(prepare, images):
    (images / "train/cat/notes.txt").write_bytes(b"x")
    break_files(images, 11)
    code, out, err = prepare(on_broken="skip")
    assert code == 0
    assert "12 files passed over: 11 broken, 1 no picture: .txt" in out
    lines = err.splitlines()
    assert lines[0].startswith("prepare: train/cat/broken00.png: broken: ")
    assert (len(lines), lines[-1]) == (11, "prepare: and 2 more")
    table = paths.FILES.read_text()
    assert "\n,,train/cat/notes.txt,,,,,no picture: .txt\n" in table
    assert table.count("broken: ") == 11
    assert "notes" not in paths.MANIFEST.read_text()


def test_stage_names_the_first_broken_files_and_writes_nothing(prepare, images):
    break_files(images, 12)
    code, out, err = prepare()
    assert (code, out) == (3, "")
    lines = err.splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("prepare: train/cat/broken00.png: broken: ")
    assert "found 12 broken, first train/cat/broken00.png" in lines[-1]
    assert not (images.parent / "data").exists()
    assert not (images.parent / "metrics").exists()


def test_every_row_of_files_csv_is_the_picture_in_that_row(prepare, images):
    import csv

    prepare(image_size=8)
    with paths.FILES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    policy = PicturePolicy((8, 8), "pad", 1, "white")
    for split in ("train", "validation", "test"):
        with np.load(paths.PREPARED / f"{split}.npz") as arrays:
            pixels, labels = arrays["images"], arrays["labels"]
        listed = [row for row in rows if row["split"] == split]
        assert [int(row["row"]) for row in listed] == list(range(len(labels)))
        for row, image, label in zip(listed, pixels, labels, strict=True):
            expected = read_pixels(images / row["file"], policy)
            np.testing.assert_array_equal(image, expected)
            assert row["file"].split("/")[1] == ["cat", "dog"][label]
            assert (row["width"], row["height"]) == ("7", "6")


def test_missing_test_split_is_cut_from_class_folders(prepare, images):
    shutil.rmtree(images / "test")
    for name in ("cat", "dog"):
        (images / "train" / name).rename(images / name)
    (images / "train").rmdir()
    code, out, _ = prepare()
    assert code == 0
    assert "folder: 4 train, 4 validation, 2 test images" in out


def test_class_that_is_missing_from_test_is_named(prepare, images):
    shutil.rmtree(images / "test/dog")
    code, out, _ = prepare()
    assert code == 0
    assert "prepare: warning: no test example of dog: " in out


def test_groups_of_a_table_stay_together(prepare, images):
    files = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    rows = [
        f"{file},{file.parts[1]},patient{number // 2}"
        for number, file in enumerate(files)
    ]
    (images / "labels.csv").write_text("\n".join(["file,label,group", *rows]))
    code, _, err = prepare()
    assert code == 0, err
    split_of = {}
    for line in paths.FILES.read_text().splitlines()[1:]:
        split, _, _, group, *_ = line.split(",")
        assert split_of.setdefault(group, split) == split
    assert set(split_of.values()) == {"train", "validation", "test"}


def test_group_in_two_given_splits_is_named(prepare, images):
    rows = ["train/cat/0.png,cat,train,anna", "train/dog/0.png,dog,train,ben"]
    rows += ["test/cat/0.png,cat,test,anna", "test/dog/0.png,dog,test,carl"]
    table = images / "labels.csv"
    table.write_text("\n".join(["file,label,split,group", *rows]))
    code, _, err = prepare()
    assert code == 3
    assert "group 'anna': expected all its pictures in one split" in err
    assert "test/cat/0.png in test" in err
    assert "train/cat/0.png in train" in err


def test_duplicates_and_extreme_sizes_are_named(prepare, images):
    shutil.copy(images / "train/cat/0.png", images / "test/dog/copy.png")
    save(images, "train/dog/long.png", "L", (66, 6), color=9)
    save(images, "train/dog/large.png", "L", (400, 400), color=9)
    code, out, _ = prepare(image_size=8)
    assert code == 0
    warned = [line for line in out.splitlines() if "warning" in line]
    assert (
        "prepare: warning: one picture in two classes, 2 files in all: train/cat/0.png "
        "(cat) and test/dog/copy.png (dog). Remove the wrong one."
    ) in warned
    assert any("one picture in two splits, " in line for line in warned)
    assert any("over 10 times the median size: train/dog/" in line for line in warned)
    assert any("over 5 to 1 in shape: train/dog/" in line for line in warned)
