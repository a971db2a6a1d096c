"""A folder is claimed by one run, and released if nothing was computed in it."""

import multiprocessing
from pathlib import Path

import pytest

from mlprune.errors import UserError
from mlprune.runs.folder import CONFIG, UNFINISHED, claim, claim_named, numbered, release, versions

STARTS = 8


def versions_of(parent: Path) -> str:
    return claim(versions(parent)).name


def numbered_of(parent: Path) -> str:
    return claim(numbered(parent / "mlprune_run")).name


@pytest.mark.parametrize(("start", "first"), [(versions_of, "version_0"), (numbered_of, "mlprune_run")])
def test_starts_at_once_have_a_folder_each(tmp_path: Path, start, first: str) -> None:
    with multiprocessing.get_context("fork").Pool(STARTS) as pool:
        names = pool.map(start, [tmp_path / "logs"] * STARTS * 4, chunksize=1)
    assert set(names) == {first, *(f"{first.removesuffix('_0')}_{number}" for number in range(1, STARTS * 4))}
    assert all((tmp_path / "logs" / name / UNFINISHED).is_dir() for name in names)


def test_the_next_version_comes_after_the_highest(tmp_path: Path) -> None:
    for name in ("version_2", "version_10", "version_x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_11").touch()  # a file has the name too
    assert claim(versions(tmp_path)).name == "version_12"


def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/version_0' cannot be written"):
        claim(versions(tmp_path / "file"))


def test_a_named_folder_holds_one_run(tmp_path: Path) -> None:
    folder = claim_named(tmp_path / "mine")
    with pytest.raises(UserError, match="holds a run already"):  # it runs
        claim_named(folder)
    (folder / CONFIG).touch()
    (folder / UNFINISHED).rmdir()
    with pytest.raises(UserError, match="holds a run already"):  # it is complete
        claim_named(folder)


@pytest.mark.parametrize("file", [CONFIG, "hparams.yaml", "events.out.tfevents.1.host.2.0", None])
def test_a_folder_in_which_nothing_was_computed_is_released(tmp_path: Path, file: str | None) -> None:
    folder = claim(versions(tmp_path))
    if file is not None:
        (folder / file).touch()
    release(folder)
    assert not folder.exists()


@pytest.mark.parametrize("file", [f"{UNFINISHED}/block.0.safetensors", "results.json", "notes of the user's"])
def test_a_folder_with_work_in_it_stays(tmp_path: Path, file: str) -> None:
    folder = claim(versions(tmp_path))
    (folder / file).touch()
    release(folder)
    assert (folder / file).exists()
