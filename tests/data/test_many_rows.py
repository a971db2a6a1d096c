"""Large files are read for what is needed of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 100_000
SCRIPT = """
import resource, sys, time
from mlprune.data.corpora import LocalFiles
from mlprune.evaluation.tasks import TranslationTask
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
task = TranslationTask(["fr"], corpus=LocalFiles(sys.argv[1]), limit=10)
assert len(task.examples("fr")) == 10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.process_time() - start)
"""


@pytest.mark.parametrize("kind", ["tsv", "jsonl"])
def test_a_few_of_many_rows_are_cheap(kind: str, tmp_path: Path) -> None:
    for lang in ("en", "fr"):
        line = '{{"text": "Sentence {} of many, none of them short, in {}."}}\n' if kind == "jsonl" else "{} of {}\t1\n"
        with (tmp_path / f"s.{lang}.{kind}").open("w") as file:
            file.write("" if kind == "jsonl" else "text\tn\n")
            file.writelines(line.format(i, lang) for i in range(ROWS))
    command = [sys.executable, "-c", SCRIPT, f"{tmp_path}/s.{{lang}}.{kind}"]
    grown, seconds = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert grown < 50  # MiB
    assert seconds < 6  # of the processor
