"""Looks at confirmation rows: a study counts those before it, and its own once, however it is continued."""

from pathlib import Path

from mlprune.files import write_json
from mlprune.studies.looks import STUDY, Looks, find_looks

ROWS, ENDPOINT = "hash of the rows", {"metric": "accuracy"}


def looked(folder: Path, looks: Looks) -> Path:
    folder.mkdir()
    write_json(folder / STUDY, looks.to_json())
    return folder


def test_a_merged_study_that_is_resumed_does_not_count_the_look_of_its_parts_again(tmp_path: Path) -> None:
    earlier = looked(tmp_path / "earlier", find_looks(ROWS, {"metric": "chrf"}, []))
    look = find_looks(ROWS, ENDPOINT, [earlier])
    assert look.count == 2
    parts = [looked(tmp_path / name, look) for name in ("part 1", "part 2")]
    merged = looked(tmp_path / "merged", look)
    assert find_looks(ROWS, ENDPOINT, [earlier, *parts, merged], merged).to_json() == look.to_json()
    again = find_looks(ROWS, ENDPOINT, [earlier, *parts, merged], tmp_path / "new")
    assert again.count == 3, "another study of the same rows"
    assert again.look != look.look
