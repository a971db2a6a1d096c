"""``mlprune trim`` as users call it: what it writes and says, and which mistakes it refuses before loading a model."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from tiny import tiny_model
from tokenizer_kinds import CAUSAL

from mlprune.cli import main
from mlprune.smaller.texts import corpus_texts, prompt_texts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    tokenizer = CAUSAL["Gemma"].make()
    tiny_model("gemma3", vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_what_it_writes_and_says(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.fr.txt").write_text("Encore un texte.\n\nEt un autre.\n")
    (tmp_path / "prompt.txt").write_text("Réponds : oui ou non ?")
    args = ["trim", str(model), "--languages", "fr", "--corpus", "more.{lang}.txt", "--corpus", "bundled:nli"]
    assert main([*args, "--prompts", "prompt.txt", "--others", "", "--limit", "4"]) == 0
    said = capsys.readouterr().out
    written = (tmp_path / "small-fr" / "trim.md").read_text()
    facts = json.loads((tmp_path / "small-fr" / "trim.json").read_text())
    assert "## What it costs" in said
    assert said.split("\n## ", 1)[1].rsplit("\n\nWritten", 1)[0] in written
    assert facts["languages"] == ["fr"]
    assert facts["corpora"] == ["more.{lang}.txt", "bundled:nli"]
    row = next(row for row in facts["costs"]["differences"] if row["metric"] == "bits_per_char")
    assert row["before"] == pytest.approx(row["after"], rel=1e-6)  # every token was kept
    renormalized = facts["costs"]["bits_per_character_renormalized"]["fr"]
    assert renormalized < row["before"]
    assert "that is no gain" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["more.fr.txt", "prompt.txt", "small-fr"]


def test_other_languages_pay(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    args = ["trim", str(model), "--languages", "sw", "--others", "zh", "--corpus", "bundled:parallel"]
    assert main([*args, "--output", str(target), "--limit", "0"]) == 0
    tokens = json.loads((target / "trim.json").read_text())["costs"]["tokens_per_character"]
    assert tokens["sw"]["before"] == tokens["sw"]["after"]
    assert tokens["zh"]["before"] < tokens["zh"]["after"]


def test_the_model_is_the_folder_one_is_in(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its output is named after that; files of further kinds are read, and one for several languages is refused."""
    shutil.copytree(model, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    with gzip.open(tmp_path / "part.fr.gz", "wt") as file:
        file.write("Encore un texte.\n\nEt un autre.\n")
    (tmp_path / "all.txt").write_text("Un texte.\n")
    args = ["trim", ".", "--limit", "0", "--corpus", str(tmp_path / "part.{lang}.gz"), "--others", ""]
    assert main([*args, "--languages", "fr"]) == 0
    facts = json.loads((tmp_path / "here" / "here-fr" / "trim.json").read_text())
    assert facts["texts"]["fr"]["texts"] == 2
    capsys.readouterr()
    for more in (["--languages", "fr,sw"], ["--languages", "fr", "--others", "sw"]):
        assert main(["trim", ".", "--corpus", str(tmp_path / "all.txt"), "--output", "no", *more]) == 2
        assert "all.txt' is used for fr, sw; put {lang} in place of the code" in capsys.readouterr().err


def test_templates_and_demonstrations_count() -> None:
    texts = prompt_texts(
        {"fr": corpus_texts("bundled:parallel", "fr")[:1], "sw": corpus_texts("bundled:nli", "sw")[:1]}
    )
    joined = "\n".join(texts)
    for part in ("Swahili: ", "It is negative", ", right?  Yes , ", ", n'est-ce pas? Oui, ", "\nAnswer: A"):
        assert part in joined


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--languages", "klingon"], "language 'klingon' is not known"),
        (["--languages", ","], "--languages: give at least one code"),
        (["--languages", "fr,fr"], "--languages: 'fr' is given twice"),
        (["--languages", "fr", "--corpus", "bundle"], "--corpus 'bundle' is not known; give bundled, "),
        (["--languages", "fr", "--corpus", "bundled:paralel"], "bundled corpus 'paralel' does not exist"),
        (["--languages", "de"], "has no language 'de'"),
        (["--languages", "fr", "--corpus", "no/{lang}.txt"], "file 'no/fr.txt' for language 'fr' does not exist"),
        (["--languages", "fr", "--corpus", "no/{lang}.jsonl"], "corpus file 'no/fr.jsonl' for language 'fr' does not"),
        (["--languages", "fr", "--corpus", "flores:no"], "FLORES folder 'no' does not exist"),
        (["--languages", "fr", "--prompts", "no.txt"], "--prompts 'no.txt' cannot be read"),
        (["--languages", "fr", "--limit", "-1"], "--limit -1 is not allowed"),
        (["--languages", "fr", "--output", "/"], "'/' exists already"),
        (["--languages", "fr", "--others", "xx"], "language 'xx' is not known"),
    ],
)
def test_mistakes_are_one_line(
    args: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["trim", "no/model", *args]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
