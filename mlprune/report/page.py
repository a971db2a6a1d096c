"""From runs to one HTML page: sections in reading order; a section without data is left out."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mlprune.comparison import chance_levels, read_controls, read_differences, read_figures
from mlprune.comparison.chance import Levels
from mlprune.comparison.schema1 import headline_tasks
from mlprune.files import write_text
from mlprune.invocation import program
from mlprune.languages import language_name
from mlprune.metrics import Figure
from mlprune.present import comparison_tables, control_tables, figure_tables
from mlprune.present.table import term
from mlprune.report.answer import answer, findings
from mlprune.report.changes import changed_predictions, generated_answers
from mlprune.report.features import feature_section
from mlprune.report.figures import layer_figures, result_figures, uniform_sparsity
from mlprune.report.headline import headline, question
from mlprune.report.provenance import data_tables
from mlprune.report.study import study_section
from mlprune.report.sweep import sweep_section
from mlprune.report.tables import facts_of, layer_summary, settings_rows
from mlprune.report.take import with_buttons
from mlprune.report.words import glossary_of
from mlprune.runs.content import RunContent
from mlprune.text import visible

MAX_BYTES = 3_000_000
CHANGED = (
    "Each row is a language. Left: the {} and the {} model, with 95% intervals, and what guessing gives. Right: the "
    "difference with its interval, which is narrower, since both models answered the same examples; green is better, "
    "red is worse, grey may be chance (95% interval or corrected p). Sorted by the change, best first."
)
MEASURED = "Each row is a language, with its 95% interval and chance level, best first."


def write_report(runs: Sequence[RunContent], path: Path) -> Path:
    """Write the report of one run, or of several side by side.

    Args:
        runs: At least one.
        path: Target; complete or absent.

    Raises:
        UserError: If it cannot be written.
    """
    write_text(path, render(runs))
    return path


def render(runs: Sequence[RunContent]) -> str:
    """Return the page.

    Args:
        runs: At least one; one run gets its examples, several are laid side by side.
    """
    environment = Environment(
        loader=PackageLoader("mlprune.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else visible(value),
    )
    environment.filters["lang"] = language_name
    environment.filters["table"] = with_buttons
    environment.filters["term"] = term
    return environment.get_template("report.html").render(_content(distinctly_named(runs)))


def _content(runs: Sequence[RunContent]) -> dict[str, Any]:
    """What the template shows, by name."""
    systems = named_systems(runs)
    run = runs[0] if len(runs) == 1 else None
    differences = read_differences(run.comparison) if run else []
    controls = [row for pair in read_controls(run.comparison) for row in pair] if run else []
    comparisons = [*comparison_tables(differences), *(control_tables(run.comparison) if run else [])]
    tables, layer_rows = figure_tables(systems), layer_summary(run)
    figures = result_figures(systems, differences, chances_of(runs))
    found = findings(differences, headline_tasks(run.final), controls) if run else []
    first = [each.key for each in found] or ([] if comparisons else list(figures)[:3])
    measures = {row.measure for rows in systems.values() for row in rows}
    return {
        "title": title_of(runs),
        "runs": runs,
        "questions": list(dict.fromkeys(filter(None, map(question, runs)))),
        "facts": facts_of(run) if run else [],
        "answer": answer(found),
        "findings": found,
        "picture": [figures[key] for key in first if key in figures],
        "caption": CHANGED.format(differences[0].reference, differences[0].system) if found else MEASURED,
        "headlines": [(run.name, headline(run)) for run in runs if headline(run)],
        "words": glossary_of([*comparisons, *tables, *layer_rows], sorted(measures, key=lambda each: each.name)),
        "settings": settings_rows(runs),
        "data": data_tables(run),
        "comparisons": comparisons,
        "tables": tables,
        "figures": [figure for key, figure in figures.items() if key not in first],
        "uniform": uniform_sparsity(runs),
        "layer_figures": layer_figures(runs),
        "layer_rows": layer_rows,
        "sweep": sweep_section(run) if run else None,
        "study": study_section(run) if run else None,
        "features": feature_section(run) if run else None,
        "prunes": any(run.pruned for run in runs),
        "commands": [(run.name, command(run)) for run in runs],
        **(_examples(run) if run else {"changes": {}, "answers": []}),
    }


def _examples(run: RunContent) -> dict[str, Any]:
    """Examples that changed, and what was generated."""
    predictions = run.predictions
    before, after = (*predictions.values(), {}, {})[:2]
    found = changed_predictions(before, after)
    return {
        "changes": {kind: examples for kind, examples in found.items() if examples},
        "names": list(predictions),
        "answers": generated_answers(run.final, predictions),
    }


def chances_of(runs: Sequence[RunContent]) -> Levels:
    """Return what guessing gives on the runs' examples."""
    found: Levels = {}
    for run in runs:
        last = next(reversed(run.predictions.values()), {})
        records = {
            task: {lang: list(own.values()) for lang, own in languages.items()} for task, languages in last.items()
        }
        found |= chance_levels(records, run.final.get("measured_by", {}))
    return found


def title_of(runs: Sequence[RunContent]) -> str:
    """Say in a few words what the runs hold."""
    if len(runs) > 1:
        return f"{len(runs)} runs side by side"
    run = runs[0]
    if run.sweep:
        return "Dense against pruned, by sparsity"
    if run.study:
        return "A study of many recipes"
    if len(run.results) == 2:
        return f"Dense against {next(reversed(run.results))}"
    if run.results:
        return f"The {next(iter(run.results))} model, evaluated"
    return "Which features are large where" if run.overlap else "What was pruned"


def named_systems(runs: Sequence[RunContent]) -> dict[str, list[Figure]]:
    """Return the figures to be shown, by the name each evaluation gets in tables and charts.

    Equal dense results of several runs are one system.
    """
    found = [{stage: read_figures(results) for stage, results in run.results.items()} for run in runs]
    if len(runs) == 1:
        return found[0]
    dense = [[replace(row, system="") for row in own["dense"]] for own in found if "dense" in own]
    one_dense = all(figures == dense[0] for figures in dense)
    stages = list(dict.fromkeys(stage for own in found for stage in own))
    return {
        "dense" if one_dense and stage == "dense" else f"{run.name} {stage}": own[stage]
        for stage in stages
        for run, own in zip(runs, found, strict=True)
        if stage in own
    }


def distinctly_named(runs: Sequence[RunContent]) -> list[RunContent]:
    """Return the runs, each with as much of its path as tells it from the others.

    Example:
        >>> runs = [RunContent(Path(f"/{name}/logs/v0"), "") for name in "ab"]
        >>> [run.name for run in distinctly_named(runs)]
        ['a/logs/v0', 'b/logs/v0']
    """
    paths = [run.folder.resolve().parts for run in runs]
    depth = next((n for n in range(2, max(map(len, paths))) if len({p[-n:] for p in paths}) == len(set(paths))), 2)
    names = ["/".join(path[-depth:]) for path in paths]
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def command(run: RunContent) -> str:
    """Return the command that repeats a run."""
    subcommand = "fit" if run.sweep or run.study or len(run.results) == 2 else "test" if run.results else "validate"
    return f"{program()} {subcommand} --config {shlex.quote(f'{run.name}/config.yaml')}"
