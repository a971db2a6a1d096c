"""Large files are read for what is needed of them: a few rows, and where the others start."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from mlprune.data.corpora import Corpus, FloresFolder, LocalFiles
from mlprune.evaluation.tasks import TranslationTask

ROWS = 10_000
PER_ROW = 300  # bytes for a row of both languages; two dicts of short texts take a thousand


def corpus(folder: Path, kind: str) -> Corpus:
    for lang, name in (("en", "eng_Latn.dev"), ("fr", "fra_Latn.dev")):
        texts = [f"Sentence {i} of many, none of them short, in {lang}." for i in range(ROWS)]
        file = folder / (name if kind == "flores" else f"s.{lang}.{kind}")
        if kind == "parquet":
            pd.DataFrame({"text": texts, "n": range(ROWS)}).to_parquet(file)
        elif kind == "jsonl":
            file.write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts))
        elif kind == "flores":
            file.write_text("".join(text + "\n" for text in texts))
        else:
            line = "{}\t1\n" if kind == "tsv" else '"{}",1\n'
            file.write_text(
                "text\tn\n".replace("\t", "\t" if kind == "tsv" else ",") + "".join(map(line.format, texts))
            )
    return FloresFolder(str(folder)) if kind == "flores" else LocalFiles(f"{folder}/s.{{lang}}.{kind}")


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "flores"])
def test_a_few_of_many_rows_take_little_memory(kind: str, tmp_path: Path, traced: None) -> None:
    task = TranslationTask(["fr"], corpus=corpus(tmp_path, kind), limit=10)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    examples = task.examples("fr")
    _, peak = tracemalloc.get_traced_memory()
    assert all(e.source.split()[1] == e.reference.split()[1] == e.id for e in examples)
    assert len(examples) == 10
    assert (peak - before) / ROWS < PER_ROW
