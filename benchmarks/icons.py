"""Collects real colour pictures: 1,247 icons of Debian's icon themes, in 16 classes.

    sudo apt-get install {adwaita,elementary-xfce,faenza,gnome,lxde}-icon-theme
    sudo apt-get install {mate,moka,obsidian,oxygen,tango}-icon-theme
    python -m benchmarks.icons ../icons

A class is what an icon stands for, as the freedesktop.org icon naming specification
names it. Three themes are the test split: does the network know a printer that another
artist has drawn? The files have 16 to 512 pixels a side, with transparency, palettes or
grey. They belong to the themes' artists; none is in this repository.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

ICONS = Path("/usr/share/icons")
TEST_THEMES = ("elementary-xfce", "mate", "oxygen")
THEMES = (
    *("Adwaita", "Faenza", "Moka", "Obsidian", "Tango", "gnome", "nuoveXT2"),
    *TEST_THEMES,
)
CLASSES = {
    "camera": ("camera-photo",),
    "clock": ("appointment-new", "document-open-recent"),
    "computer": ("computer",),
    "disc": ("media-optical", "drive-optical"),
    "disk": ("drive-harddisk",),
    "folder": ("folder",),
    "home": ("go-home", "user-home"),
    "keyboard": ("input-keyboard",),
    "mail": ("mail-unread", "mail-message-new"),
    "mouse": ("input-mouse",),
    "printer": ("printer",),
    "scissors": ("edit-cut",),
    "search": ("edit-find", "system-search"),
    "star": ("emblem-favorite", "bookmark-new"),
    "trash": ("user-trash", "user-trash-full"),
    "warning": ("dialog-warning",),
}


def collect(out: Path, icons: Path = ICONS) -> dict[str, int]:
    """Copies each icon once, as `out/<split>/<class>/*.png`; counts them by split."""
    counts = {"train": 0, "test": 0}
    seen: set[str] = set()  # two names, or two themes, may share a file
    for theme in sorted(THEMES):
        split = "test" if theme in TEST_THEMES else "train"
        for label, names in CLASSES.items():
            folder = out / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                for path in sorted((icons / theme).rglob(f"{name}.png")):
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
                    if digest not in seen:
                        seen.add(digest)
                        shutil.copyfile(path, folder / f"{theme}-{digest}.png")
                        counts[split] += 1
    return counts


def main() -> None:
    """Collects the icons of the themes that are installed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="the folder to write")
    options = parser.parse_args()
    missing = [theme for theme in THEMES if not (ICONS / theme).is_dir()]
    if missing:
        raise SystemExit(
            f"icons: expected the themes in {ICONS}, missing {', '.join(missing)}. "
            "Install their packages, see the first lines of benchmarks/icons.py."
        )
    counts = collect(options.out)
    print(", ".join(f"{count} {split}" for split, count in counts.items()), "icons")


if __name__ == "__main__":
    main()
