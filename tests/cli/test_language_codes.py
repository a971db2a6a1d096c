"""Norwegian's code in YAML, which reads a bare no as false."""

from pathlib import Path

import pytest
from tiny_runs import write_config

from mlprune.languages import language


@pytest.mark.parametrize(
    "section",
    [
        "tasks: [{class_path: mlprune.evaluation.tasks.PerplexityTask, init_args: {languages: [en, no]}}]",
        "demonstrations: {mt: {class_path: mlprune.data.demonstrations.TranslationDemonstrations, init_args: "
        "{source_lang: no}}}",
    ],
)
def test_no_is_to_be_quoted(section: str, mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, data={})
    (tmp_path / "no.yaml").write_text(f"data: {{{section}}}\n")
    status, _, errors = mlprune("test", "--config", config, "--config", tmp_path / "no.yaml")
    assert status != 0
    assert "quote it: 'no'" in errors
    assert len(errors.strip().splitlines()) == 1


def test_codes_of_bokmal_and_latin() -> None:
    assert (language("nb").flores, language("la").name) == ("nob_Latn", "Latin")
