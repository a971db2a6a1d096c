"""Parts of a study that are evaluated apart, merged and completed, give the bytes of one run."""

from pathlib import Path

from planted import NOTHING, SKILL
from planted_studies import STUDY, read, write
from tiny import save_tiny
from tiny_runs import RUN

from mlprune.runs.journal import read_starts

PARTS = [RUN, RUN.with_name("version_1")]
STUDY_FILES = ("study.json", "study.csv", "study.tex")


def run_whole_and_parts(mlprune, config: Path) -> Path:
    """Run a study as one and in two parts, the second first; returns the folder of the whole one."""
    assert mlprune("fit", "--config", config, "--trainer.default_root_dir", "whole")[0] == 0
    for part in ("2/2", "1/2"):
        status, _, err = mlprune("fit", "--config", config, "--study.shard", part)
        assert status == 0, err
    return Path("whole", RUN)


def evaluations(run: Path) -> dict[str, bytes]:
    """What a study keeps of every recipe and of dense models."""
    files = [path for name in ("recipes", "dense") for path in (run / name).rglob("*.json*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def assert_same_study(whole: Path, merged: Path) -> None:
    for name in STUDY_FILES:
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    assert evaluations(whole) == evaluations(merged)


def test_recipes_that_nothing_chooses_are_judged_apart(mlprune, tiny_folder: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", "gpt2")
    nothing = {"pattern.sparsity": NOTHING, "endpoint": {"languages": ["es"]}}
    recipes = STUDY["recipes"] | {"nothing": nothing, "other": {"model": str(other), "pattern.sparsity": SKILL}}
    config = write(tmp_path, tiny_folder, select=None, seeds=[0], confirm={"rows": "40-59"}, recipes=recipes)
    whole = run_whole_and_parts(mlprune, config)
    judged = {row["system"]: (row["language"], row["n"]) for row in read(whole)["confirmed"]}
    everywhere = ("average", 40)
    assert judged == {"nothing": ("es", 20), "skill": everywhere, "shift": everywhere, "other": everywhere}
    inputs, study = PARTS[1] / "inputs.json", PARTS[0] / "study.json"
    for parts, file, words, others, said in (
        ([PARTS[0]] * 2, study, "", "", "parts 2/2, 2/2 were given"),
        (PARTS, study, '"2/2"', '"2/3"', "parts 1/2, 2/3 were given"),
        (PARTS, study, '"answer"', '"no"', "version_0' is not complete; resume it first"),
        (PARTS, inputs, '"pruning.propagate": "dense"', '"pruning.propagate": "layer"', "differ in pruning.propagate"),
    ):
        complete = file.read_text(encoding="utf-8")
        file.write_text(complete.replace(words, others) if words else complete, encoding="utf-8")
        status, _, err = mlprune("report", *parts)
        assert status == 2
        assert said in err
        file.write_text(complete, encoding="utf-8")
    status, out, err = mlprune("report", *PARTS)
    assert status == 0, err
    assert_same_study(whole, Path(out.strip()).parent)
    assert evaluations(whole).keys() >= {"dense/1/results.json"}, "of the model that one part alone has"
    assert [start["part"] for start in read_starts(Path(out.strip()).parent)] == ["2/2", "1/2"]
    page = Path(out.strip()).read_text(encoding="utf-8")
    assert "UTC, in 2 parts<" in page
    assert page.count("dense of other") > 1, "in a table and in a chart"
    status, _, err = mlprune("fit", "--config", config, "--study.shard", "1/2")
    assert status == 2
    assert "looked at once already" in err


def test_recipes_are_chosen_among_those_of_all_parts_and_confirmed_once_these_are_merged(
    mlprune, tiny_folder: Path, tmp_path: Path
) -> None:
    select, confirm = {"rows": "0-39", "screen": 2.2}, {"rows": "40-59", "top": 1}
    config = write(tmp_path, tiny_folder, seeds=[0], select=select, confirm=confirm)
    whole = run_whole_and_parts(mlprune, config)
    assert len(read(whole)["rounds"]) > 1, "so that parts evaluate what one run does not"
    assert [read(part)["looks"] for part in PARTS] == [{}, {}]
    status, out, err = mlprune("report", *PARTS)
    assert status == 0, err
    merged = PARTS[0].with_name("version_0_merged")
    assert "1 of 3 recipes (skill)" in out
    assert out.strip().endswith(f"resume with: python main.py fit --resume {merged}")
    status, _, err = mlprune("fit", "--resume", merged)
    assert status == 0, err
    assert_same_study(whole, merged)
