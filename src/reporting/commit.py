"""Which commit a run was made from.

Not HEAD, which moves with every commit, also with the one that takes up the results:
the same run would be told otherwise each time. It is the newest commit that changed one
of `SOURCES`. The report's stage depends on all of them, so whatever moves this commit
makes the page anew.
"""

import shutil
import subprocess
from typing import NamedTuple

# Not the data, which may lie anywhere: its digests say which it was.
SOURCES = ("src", "stages", "requirements.lock", "params.yaml")
# Whatever the user's own configuration says.
SETTINGS = (
    "core.fsmonitor=false",
    "i18n.logOutputEncoding=UTF-8",
    "log.showSignature=false",
)


class Commit(NamedTuple):
    """The newest commit that changed the sources, and what was changed since."""

    sha: str
    date: str  # of the commit, on its committer's calendar
    subject: str
    changed: tuple[str, ...]  # sources that are not as in the commit


def find_commit() -> Commit | str:
    """The commit of the working directory; or why there is none, in words."""
    if shutil.which("git") is None:
        return "not known: git is not installed"
    found = git("log", "-1", "--format=%H%x00%P%x00%cs%x00%s", "--", *SOURCES)
    if found is None:
        return "not known: this is no git repository, or one without commits"
    if not found:
        return "not known: no commit holds the sources"
    sha, parents, date, subject = found.rstrip("\n").split("\0")
    # Where history was cut off, git takes all files for new.
    if not parents and git("rev-parse", "--is-shallow-repository") == "true\n":
        return "not known: this clone lacks its history (git fetch --unshallow)"
    return Commit(sha, date, printable(subject), changed_sources())


def changed_sources() -> tuple[str, ...]:
    """The sources that are not as in HEAD, new ones too, sorted."""
    options = "--porcelain", "-z", "--no-renames", "--untracked-files=all"
    # Two letters of what changed, a space, the path.
    entries = (git("status", *options, "--", *SOURCES) or "").split("\0")
    return tuple(sorted(printable(entry[3:]) for entry in entries if entry))


def git(*arguments: str) -> str | None:
    """What git prints; None where it fails."""
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    # The index stays as it is: another git may be at work.
    command = ["git", "--no-optional-locks", *settings, *arguments]
    result = subprocess.run(  # noqa: S603 - no shell, and nobody else's words in it
        command, capture_output=True, check=False
    )
    return None if result.returncode else result.stdout.decode(errors="replace")


def printable(text: str) -> str:
    """A name or a subject without what would not be shown."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
