"""The commit that a run was made from, in repositories made for it."""

import subprocess
from pathlib import Path

import pytest

from src.reporting.commit import find_commit

IDENTITY = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_AUTHOR_DATE": "2020-01-01T12:00:00+0900",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    "GIT_COMMITTER_DATE": "2021-02-03T01:00:00+0900",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def git(*arguments):
    return subprocess.check_output(["git", *arguments], text=True).strip()


def commit(message, **contents):
    for name, content in contents.items():
        path = Path(name.replace("__", "/").replace("_", "."))
        path.write_text(content)
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The working directory: a repository with one commit of sources."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "repository"
    for name in ("src", "stages", "metrics"):
        (folder / name).mkdir(parents=True)
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=main")
    commit("Begin", src__step_py="1", params_yaml="lr: 1", requirements_lock="jax")
    return folder


def test_commit_is_the_newest_that_changed_a_source(repository):
    newest = commit("Change the step", src__step_py="2")
    commit("Record the results", metrics__test_json="{}")
    found = find_commit()
    assert found == (newest, "2021-02-03", "Change the step", ())


def test_each_kind_of_source_counts(repository):
    for name in ("params_yaml", "requirements_lock", "stages__train_py"):
        newest = commit("Change", **{name: "new"})
        assert find_commit().sha == newest


def test_changed_new_and_removed_sources_are_named(repository):
    (repository / "params.yaml").unlink()
    (repository / "src/training/chunk.py").write_text("2")
    (repository / "src/new.py").write_text("3")
    (repository / "metrics/test.json").write_text("{}")
    assert find_commit().changed == (
        "params.yaml",
        "src/new.py",
        "src/training/chunk.py",
    )


def test_staged_source_is_one_that_was_changed(repository):
    (repository / "src/training/chunk.py").write_text("2")
    git("add", "src/training/chunk.py")
    assert find_commit().changed == ("src/training/chunk.py",)


def test_detached_work_tree_has_its_commit(repository, tmp_path, monkeypatch):
    git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    first = git("rev-parse", "HEAD")
    commit("Go on elsewhere", src__step_py="2")
    monkeypatch.chdir(tmp_path / "tree")
    assert find_commit().sha == first


def test_clone_without_history_does_not_take_its_only_commit_for_the_one(
    repository, tmp_path, monkeypatch
):
    commit("Record the results", metrics__test_json="{}")
    address = repository.as_uri()
    git("clone", "--quiet", "--depth", "1", address, str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    assert find_commit() == (
        "not known: this clone lacks its history (git fetch --unshallow)"
    )


def test_clone_that_reaches_back_to_the_commit_has_it(
    repository, tmp_path, monkeypatch
):
    newest = commit("Change the step", src__step_py="2")
    commit("Record the results", metrics__test_json="{}")
    git("clone", "--quiet", "--depth", "3", repository.as_uri(), str(tmp_path / "deep"))
    monkeypatch.chdir(tmp_path / "deep")
    assert find_commit().sha == newest


def test_folder_outside_of_a_repository_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert find_commit().startswith("not known: this is no git repository")


def test_machine_without_git_says_so(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert find_commit() == "not known: git is not installed"


def test_repository_whose_sources_were_never_committed_says_so(
    repository, tmp_path, monkeypatch
):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    git("init", "--quiet")
    commit("Begin", readme_md="1")
    assert find_commit() == "not known: no commit holds the sources"


def test_users_own_settings_change_nothing(repository):
    for name, value in (
        ("log.showSignature", "true"),
        ("status.relativePaths", "true"),
        ("core.quotePath", "true"),
        ("log.date", "raw"),
        ("i18n.logOutputEncoding", "latin1"),
    ):
        git("config", name, value)
    newest = commit("Füge ein", src__step_py="2")
    (repository / "src/ü x.py").write_text("")
    assert find_commit() == (newest, "2021-02-03", "Füge ein", ("src/ü x.py",))
