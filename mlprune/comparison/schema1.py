"""The sections of results.json and comparison.json that schema 1 had: the one place that writes and reads them.

Schema 2 keeps them beside its rows, for whoever reads them; files of schema 1 have nothing else, and are read as rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torchmetrics import Metric

from mlprune.comparison.difference import Difference
from mlprune.comparison.records import TaskRecords
from mlprune.comparison.rows import AnyRow
from mlprune.metrics import Accuracy, BitsPerChar, ExpectedRankC, Figure, Measure, RankC, Record, Translation
from mlprune.metrics.measure import AVERAGE
from mlprune.metrics.states import single_process

ACCURACY, RANKC, EXPECTED = Accuracy.measures[0], RankC.measures[0], ExpectedRankC.measures[0]
BLEU, CHRF = Translation.measures
BITS = BitsPerChar.measures[0]
Sections = dict[str, dict[str, Any]]


def guess_task(task: str, records: dict[str, list[Record]]) -> TaskRecords | None:
    """Return how records are measured of which no results.json says so, by the keys of the first.

    Args:
        task: The task's name.
        records: Language to records.
    """
    records = dict(sorted(records.items(), key=lambda item: (item[0] != "en", item[0])))
    first = next((rows[0] for rows in records.values() if rows), {})
    pivot = "en" if "en" in records else None
    if "prediction" in first:
        aligned = first.get("aligned", True)
        pairs = [("en", lang) for lang in records if lang != "en"] if pivot and aligned and "scores" in first else []
        metrics: dict[str, list[Metric]] = {lang: [Accuracy()] for lang in records}
        return TaskRecords(task, records, metrics, [RankC(), ExpectedRankC()] if pairs else [], pairs, pivot, aligned)
    if "output" in first:
        metric = Translation(first.get("target_lang", "en"), first.get("bleu_tokenizer"))
        return TaskRecords(task, records, {lang: [metric] for lang in records}, headline=False)
    if "log_prob" in first:
        return TaskRecords(task, records, {lang: [BitsPerChar()] for lang in records}, pivot=pivot, headline=False)
    return None


# -- results.json -------------------------------------------------------------------------------------------------


def result_sections(tasks: Iterable[TaskRecords], figures: Sequence[Figure]) -> Sections:
    """Return the sections of results.json.

    Args:
        tasks: One system's records.
        figures: What they gave.
    """
    sections: Sections = {}
    for task in tasks:
        rows = [row for row in figures if row.task == task.task]
        first = next((metrics[0] for metrics in task.metrics.values() if metrics), None)
        computed = {lang: _computed(metrics[0], task.records[lang]) for lang, metrics in task.metrics.items()}
        if isinstance(first, Accuracy):
            _answers(sections, task.task, computed, rows)
        elif isinstance(first, Translation):
            directions = {_direction(task, lang): entry for lang, entry in computed.items()}
            targets = {metric.target_lang for (metric, *_) in task.metrics.values() if isinstance(metric, Translation)}
            if len(directions) > 1 and len(targets) == 1:  # BLEU of outputs in several languages would mean nothing
                pooled = [record for records in task.records.values() for record in records]
                directions[f"{_prefix(task.task, 'translation')}all-{first.target_lang}"] = _computed(first, pooled)
            sections.setdefault("translation", {}).update(directions)
        elif isinstance(first, BitsPerChar):
            prefix = _prefix(task.task, "perplexity")
            sections.setdefault("perplexity", {}).update({prefix + lang: entry for lang, entry in computed.items()})
    return sections


def _computed(metric: Any, records: list[Record]) -> dict[str, Any]:
    alone = single_process(metric)
    alone.update(records)
    found: dict[str, Any] = alone.compute()
    return found


def _answers(sections: Sections, task: str, computed: dict[str, Any], rows: Sequence[Figure]) -> None:
    """Add the sections of a task whose answers are right or wrong."""
    by_measure = {
        measure.name: {row.language: row for row in rows if row.measure.name == measure.name}
        for measure in (ACCURACY, RANKC, EXPECTED)
    }
    accuracy = by_measure[ACCURACY.name]
    for lang, found in computed.items():
        if "ci95" in found:
            found["ci95"] = [accuracy[lang].low, accuracy[lang].high]
    sections.setdefault("tasks", {})[task] = computed
    mean = accuracy.get(AVERAGE)
    entry = {} if mean is None else {"accuracy": mean.value}
    interval = {} if mean is None or mean.low is None else {"ci95": [mean.low, mean.high]}
    sections.setdefault("average", {})[task] = {_average_key(mean): entry | interval} if mean and entry else {}
    for section, measure in (("rankc", RANKC), ("rankc_expected", EXPECTED)):
        pairs = {lang: row.value for lang, row in by_measure[measure.name].items() if "-" in lang}
        if pairs:
            sections.setdefault(section, {})[task] = pairs


def _average_key(row: Figure | Difference) -> str:
    """What an average without the pivot is called; nothing is English where there is none."""
    return f"non_{row.pivot or 'en'}"


def read_figures(results: dict[str, Any]) -> list[Figure]:
    """Return the rows of results.json, also of a file that has sections only.

    Args:
        results: Content of results.json.

    Example:
        >>> old = {"stage": "dense", "tasks": {"nli": {"fr": {"accuracy": 0.5, "n": 2, "ci95": [0.1, 0.9]}}}}
        >>> [(row.system, row.task, row.language, row.value, row.low) for row in read_figures(old)]
        [('dense', 'nli', 'fr', 0.5, 0.1)]
    """
    if "figures" in results:
        return [Figure.from_json(row) for row in results["figures"]]
    system = str(results.get("stage", "dense"))
    rows = []

    def add(task: str, language: str, measure: Measure, entry: dict[str, Any]) -> None:
        low, high = entry.get("ci95") or (None, None)
        rows.append(Figure(system, task, language, measure, entry.get(measure.name), low, high, entry.get("n", 0)))

    for task, languages in results.get("tasks", {}).items():
        for lang, entry in languages.items():
            add(task, lang, ACCURACY, entry)
        for entry in results.get("average", {}).get(task, {}).values():
            add(task, AVERAGE, ACCURACY, entry)
        for section, measure in (("rankc", RANKC), ("rankc_expected", EXPECTED)):
            for pair, value in results.get(section, {}).get(task, {}).items():
                add(task, pair, measure, {measure.name: value})
    for direction, entry in results.get("translation", {}).items():
        task, lang = _of_direction(direction)
        for measure in (BLEU, CHRF):
            add(task, lang, measure, entry)
    for lang, entry in results.get("perplexity", {}).items():
        add("perplexity", lang, BITS, entry)
    return _without_english(rows)


# -- comparison.json ----------------------------------------------------------------------------------------------


def comparison_sections(tasks: Iterable[TaskRecords], rows: Sequence[Difference]) -> Sections:
    """Return the sections of comparison.json.

    Args:
        tasks: The first system's records.
        rows: The differences.
    """
    sections: Sections = {name: {} for name in ("tasks", "average", "rankc", "translation", "perplexity")}
    for task in tasks:
        by_measure: dict[str, dict[str, Difference]] = {}
        metric = next((metrics[0] for metrics in task.metrics.values() if metrics), None)
        known = isinstance(metric, Accuracy | Translation | BitsPerChar)  # a user's metric may share a name
        for row in rows if known else []:
            if row.task == task.task:
                by_measure.setdefault(row.measure.name, {})[row.language] = row
        languages = list(task.records)
        if answers := by_measure.get(ACCURACY.name):
            sections["tasks"][task.task] = {
                lang: _entry(answers[lang]) | {"p_holm": answers[lang].p_holm, "disagreement": answers[lang].changed}
                for lang in languages
            }
            mean = answers.get(AVERAGE)
            sections["average"][task.task] = {_average_key(mean): _entry(mean)} if mean else {}
            pairs = {lang: row for lang, row in by_measure.get(RANKC.name, {}).items() if "-" in lang}
            sections["rankc"][task.task] = {k: _entry(row) | {"expected": row.by_chance} for k, row in pairs.items()}
        if bleu := by_measure.get(BLEU.name):
            for lang in languages:
                entry = _entry(bleu[lang]) | {"chrf": _entry(by_measure[CHRF.name][lang])}
                sections["translation"][_direction(task, lang)] = entry
        if bits := by_measure.get(BITS.name):
            prefix = _prefix(task.task, "perplexity")
            sections["perplexity"] |= {prefix + lang: _entry(bits[lang]) for lang in languages}
    return sections


def _entry(row: Difference) -> dict[str, Any]:
    interval = None if row.low is None else [row.low, row.high]
    entry = {"dense": row.before, "pruned": row.after, "delta": row.delta, "delta_ci95": interval}
    return entry | {"p": row.p, "n": row.n}


def read_differences(comparison: dict[str, Any]) -> list[Difference]:
    """Return the rows of comparison.json, also of a file that has sections only.

    Args:
        comparison: Content of comparison.json.

    Example:
        >>> entry = {"dense": 0.5, "pruned": 0.75, "delta": 0.25, "delta_ci95": [0.0, 0.5], "p": 0.5, "n": 4}
        >>> [(row.language, row.after, row.low) for row in read_differences({"tasks": {"nli": {"fr": entry}}})]
        [('fr', 0.75, 0.0)]
    """
    if "differences" in comparison:
        return [Difference.from_json(row) for row in comparison["differences"]]
    reference, system = comparison.get("systems", ["dense", "pruned"])
    rows = []

    def add(task: str, language: str, measure: Measure, entry: dict[str, Any]) -> None:
        low, high = entry.get("delta_ci95") or (None, None)
        before, after, delta = (entry.get(name) for name in ("dense", "pruned", "delta"))
        row = Difference(system, reference, task, language, measure, before, after, delta, low, high)
        optional = {"p": "p", "p_holm": "p_holm", "changed": "disagreement", "by_chance": "expected"}
        known = {name: entry[key] for name, key in optional.items() if key in entry}
        rows.append(Difference(**vars(row) | known | {"n": entry.get("n", 0)}))

    for task, languages in comparison.get("tasks", {}).items():
        for lang, entry in languages.items():
            add(task, lang, ACCURACY, entry)
        for entry in comparison.get("average", {}).get(task, {}).values():
            add(task, AVERAGE, ACCURACY, entry)
        for pair, entry in comparison.get("rankc", {}).get(task, {}).items():
            add(task, pair, RANKC, entry)
    for direction, entry in comparison.get("translation", {}).items():
        task, lang = _of_direction(direction)
        add(task, lang, BLEU, entry)
        add(task, lang, CHRF, entry.get("chrf", {}) | {"n": entry.get("n", 0)})
    for lang, entry in comparison.get("perplexity", {}).items():
        add("perplexity", lang, BITS, entry)
    return _without_english(rows)


# -- sweep.csv ----------------------------------------------------------------------------------------------------


def _without_english(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Rows of schema 1, whose averages leave English out wherever a task has it."""
    tasks = {row.task for row in rows if row.language == "en"}
    return [replace(row, pivot="en") if row.language == AVERAGE and row.task in tasks else row for row in rows]


def read_sweep(lines: Sequence[dict[str, str]]) -> list[tuple[float, Difference]]:
    """Return sparsities and differences of sweep.csv, also of one that schema 1 wrote.

    Args:
        lines: Its lines, column to cell.

    Example:
        >>> line = {"sparsity": "0.3", "task": "nli", "language": "non_en", "metric": "accuracy", "dense": "0.5"}
        >>> [(sparsity, row.language, row.before) for sparsity, row in read_sweep([line | {"pruned": "0.4", "n": "4"}])]
        [(0.3, 'average', 0.5)]
    """
    known = {measure.name: measure for measure in (ACCURACY, RANKC, BLEU, BITS)}
    rows = []
    for line in lines:
        cells: dict[str, Any] = {name: _cell(cell) for name, cell in line.items()} | {"n": int(line.get("n") or 0)}
        if "dense" in line:
            shown = known[line["metric"]].to_json() | {"reference": "dense", "system": "pruned"}
            cells |= shown | {"before": cells["dense"], "after": cells["pruned"], "delta": cells.get("delta")}
        row = Difference.from_json(cells)
        rows.append((float(line["sparsity"]), replace(row, language=AVERAGE) if row.language == "non_en" else row))
    return rows + _averages(rows)


def read_line(line: Mapping[str, str]) -> Difference:
    """Return the difference in a line of study.csv, column to cell."""
    texts = {name: line[name] for name in ("system", "reference", "task", "language", "title", "unit")}
    return Difference.from_json({name: _cell(cell) for name, cell in line.items()} | texts)


def _averages(rows: Sequence[tuple[float, Difference]]) -> list[tuple[float, Difference]]:
    """Averages of what schema 1 has by language only, without intervals."""
    parts: dict[tuple[float, str, str], list[Difference]] = {}
    for sparsity, row in rows:
        parts.setdefault((sparsity, row.task, row.measure.name), []).append(row)
    found = []
    for (sparsity, _, _), measured in parts.items():
        if not any(row.language == AVERAGE for row in measured):
            before, after = (
                sum(getattr(row, side) or 0.0 for row in measured) / len(measured) for side in ("before", "after")
            )
            n = sum(row.n for row in measured)
            average = replace(measured[0], language=AVERAGE, before=before, after=after, delta=after - before, n=n)
            found.append((sparsity, replace(average, low=None, high=None, p=None, p_holm=None)))
    return found


def _cell(cell: str) -> Any:
    """A cell of CSV as what it was: a number, a truth value, nothing, or text."""
    if cell in ("True", "False", ""):
        return {"True": True, "False": False, "": None}[cell]
    try:
        return int(cell) if cell.lstrip("-").isdigit() else float(cell)
    except ValueError:
        return cell


def headline_tasks(results: dict[str, Any]) -> list[str]:
    """Return the tasks that a headline speaks of: all, if none is meant to be in one."""
    if "measured_by" in results:
        measured = results["measured_by"]
        return [task for task, section in measured.items() if section["headline"]] or list(measured)
    return list(results.get("tasks", {}))


def _prefix(task: str, usual: str) -> str:
    """What keys of a section begin with, where the task has a name of its own."""
    return "" if task == usual else f"{task}:"


def _direction(task: TaskRecords, lang: str) -> str:
    metric: Any = task.metrics[lang][0]
    source = next((record["source_lang"] for record in task.records[lang] if "source_lang" in record), lang)
    return f"{_prefix(task.task, 'translation')}{source}-{metric.target_lang}"


def _of_direction(direction: str) -> tuple[str, str]:
    """Task and source language of a key such as ``fr-en`` or ``news:fr-en``."""
    task, _, pair = direction.rpartition(":")
    return task or "translation", pair.partition("-")[0]
