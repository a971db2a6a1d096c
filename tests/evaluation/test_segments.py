"""Perplexity of segments by the published protocol, computed here as SparseGPT's and Wanda's code does."""

import gzip
import json
from pathlib import Path

import datasets
import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from transformers import PreTrainedModel

from mlprune.comparison import figures_of
from mlprune.data.corpora import Bundled, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import C4, SegmentPerplexity, WikiText2

ROWS = ["", " = A title = \n", "", " It rained all day , and nobody minded . \n", " Then it stopped . \n"] * 6


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def published(model: PreTrainedModel, text: str, size: int, most: int | None = None) -> float:
    """exp of the mean over segments of the mean loss, each segment by itself."""
    ids = torch.tensor(tiny_tokenizer()(text)["input_ids"])
    count = min(len(ids) // size, most or len(ids))
    losses = []
    for i in range(count):
        segment = ids[i * size : (i + 1) * size][None]
        with torch.no_grad():
            logits = model(segment).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits.double(), segment[0, 1:]))
    return float(torch.stack(losses).mean().exp())


def measured(task: SegmentPerplexity, model: PreTrainedModel) -> tuple[float | None, int]:
    task.check_tokenizer(tiny_tokenizer())
    records = {lang: task.predict(model, tiny_tokenizer(), lang, task.examples(lang)) for lang in task.languages}
    (row,) = [row for row in figures_of(task_records(task, records), "dense") if row.language == task.languages[0]]
    return row.value, row.n


def test_wikitext_from_a_copy_of_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "wikitext-2-raw-v1"
    datasets.Dataset.from_dict({"text": ROWS}).to_parquet(folder / "test-00000-of-00001.parquet")
    card = "- config_name: wikitext-2-raw-v1\n  data_files:\n  - split: test\n    path: wikitext-2-raw-v1/test-*\n"
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    model, text = tiny_model("llama"), "\n\n".join(ROWS)
    value, n = measured(WikiText2(str(tmp_path), segment_tokens=100), model)
    assert n == len(text.encode()) // 100 > 3
    assert value == pytest.approx(published(model, text, 100), rel=1e-4)


def test_c4_from_a_copy_of_the_repository(tmp_path: Path) -> None:
    documents = [f"Document {i} says: {'yes, ' * i}no." for i in range(12)]
    (tmp_path / "en").mkdir()
    with gzip.open(tmp_path / "en" / "c4-validation.00000-of-00008.json.gz", "wt") as file:
        file.writelines(json.dumps({"text": text, "url": "https://a.org"}) + "\n" for text in documents)
    model = tiny_model("gpt2")
    value, n = measured(C4(str(tmp_path), rows="0-9", segment_tokens=50, max_segments=4), model)
    assert n == 4
    assert value == pytest.approx(published(model, " ".join(documents[:10]), 50, 4), rel=1e-4)
    with pytest.raises(UserError, match="task 'c4': rows '0-1099': there is no row 1099"):
        measured(C4(str(tmp_path)), model)


def test_any_corpus_and_several_languages() -> None:
    task = SegmentPerplexity(["fr", "sw"], Bundled("parallel", "test"), segment_tokens=64, max_segments=8, limit=4)
    value, n = measured(task, tiny_model("llama"))
    assert n == 4
    assert value is not None
    assert value > 1
    assert [segment.id for segment in task.examples("fr")] == [segment.id for segment in task.examples("sw")]


def test_mistakes(tmp_path: Path) -> None:
    corpus = LocalFiles(f"{tmp_path}/{{lang}}.jsonl")
    (tmp_path / "en.jsonl").write_text('{"text": "Short."}\n')
    task = SegmentPerplexity(["en"], corpus)
    with pytest.raises(UserError, match="depends on the tokenizer; call check_tokenizer"):
        task.examples("en")
    task.check_tokenizer(tiny_tokenizer())
    with pytest.raises(UserError, match="'en' has 6 tokens, less than a segment of 2048"):
        task.examples("en")
    with pytest.raises(UserError, match="segment_tokens 1 is not allowed; give at least 2"):
        SegmentPerplexity(["en"], corpus, segment_tokens=1)
    long = SegmentPerplexity(["en"], Bundled("parallel"), segment_tokens=300, max_segments=1)
    long.check_tokenizer(tiny_tokenizer())
    with pytest.raises(UserError, match="44 tokens too long for the model, which takes 256; give fewer segment_tokens"):
        long.predict(tiny_model("gpt2"), tiny_tokenizer(), "en", long.examples("en"))
