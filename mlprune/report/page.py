"""From runs to one HTML page: sections in reading order; a section without data is left out."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mlprune.comparison import chance_levels, read_controls, read_differences
from mlprune.comparison.chance import Levels
from mlprune.comparison.schema1 import headline_tasks
from mlprune.files import write_text
from mlprune.invocation import program
from mlprune.languages import language_name
from mlprune.metrics import Figure
from mlprune.present import comparison_tables, control_tables, detail_lines, figure_tables
from mlprune.present.table import term
from mlprune.report.answer import Finding, answer, findings
from mlprune.report.changes import changed_predictions, generated_answers
from mlprune.report.features import feature_section
from mlprune.report.figures import charted, layer_figures, result_figures, uniform_sparsity
from mlprune.report.headline import headline, question
from mlprune.report.provenance import data_tables
from mlprune.report.several import Compared, compared, figures_by_system, steps, systems_of
from mlprune.report.study import dense_models, study_section
from mlprune.report.sweep import sweep_section
from mlprune.report.tables import facts_of, layer_summary, settings_rows
from mlprune.report.take import with_buttons
from mlprune.report.words import glossary_of
from mlprune.runs.content import RunContent
from mlprune.text import visible

MAX_BYTES = 3_000_000
MOST_CHARTS = 48  # a tenth of a second each; of more tasks there are tables
CHANGED = (
    "Each row is a language. Left: the {} and the {} model, with 95% intervals, and what guessing gives. Right: the "
    "difference with its interval, which is narrower, since both models answered the same examples; green is better, "
    "red is worse, grey may be chance (95% interval or corrected p). Sorted by the change, best first."
)
SWEPT = "Each line is a language, from the dense model at 0; the dashed one is their average."
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
    own_systems = systems_of(runs)
    run = runs[0] if len(runs) == 1 else None
    systems = figures_by_system(own_systems) | (dense_models(run) if run else {})
    rows = read_differences(run.comparison) if run else []
    controls = [row for pair in read_controls(run.comparison) for row in pair] if run else []
    several = [compared(own_systems)] if run is None else steps(own_systems) if len(own_systems) > 2 else []
    comparisons = comparison_tables([row for row in rows if not row.measure.detail])
    details = comparison_tables([row for row in rows if row.measure.detail])
    details += control_tables(run.comparison) if run else []
    overall = _chosen(systems, detail=False)
    tables, layer_rows = figure_tables(overall), layer_summary(run)
    found = findings(rows, headline_tasks(run.final), controls) if run else []
    answers = [one for each in several for one in _answers_of(each, runs)]
    of_tasks = found or (answers[0][2] if answers else [])
    with_chart = charted(overall)
    first = [each.key for each in of_tasks] or ([] if comparisons else with_chart[:3])
    drawn = list(dict.fromkeys([*(key for key in first if key in with_chart), *with_chart]))[:MOST_CHARTS]
    figures = result_figures(overall, drawn, rows, chances_of(runs))
    sweep = sweep_section(run) if run else None
    measures = {row.measure for figures in systems.values() for row in figures if not row.measure.detail}
    comparisons += [table for each in several for table in each.tables]
    shown = [*comparisons, *tables, *layer_rows]
    return {
        "title": title_of(runs),
        "runs": runs,
        "questions": list(dict.fromkeys(filter(None, map(question, runs)))),
        "facts": facts_of(run) if run else [],
        "answer": answer(found),
        "findings": found,
        "answers_of": answers,
        "problem": "; ".join(each.problem for each in several if each.problem),
        "picture": sweep["figures"][:3] if sweep else [figures[key] for key in first if key in figures],
        "caption": SWEPT if sweep else CHANGED.format(rows[0].reference, rows[0].system) if found else MEASURED,
        "headlines": [(run.name, headline(run)) for run in runs if headline(run)],
        "words": glossary_of(shown, sorted(measures, key=lambda each: each.name)),
        "settings": settings_rows(runs),
        "data": data_tables(run),
        "comparisons": comparisons,
        "tables": tables,
        "detail_lines": detail_lines(rows),
        "details": details or figure_tables(_chosen(systems, detail=True)),
        "figures": [figure for key, figure in figures.items() if key not in first],
        "not_drawn": len(with_chart) - len(drawn),
        "uniform": uniform_sparsity(runs),
        "layer_figures": layer_figures(runs),
        "layer_rows": layer_rows,
        "sweep": sweep,
        "study": study_section(run) if run else None,
        "features": feature_section(run) if run else None,
        "prunes": any(run.pruned for run in runs),
        "commands": [(run.name, command(run)) for run in runs],
        **(_examples(run) if run else {"changes": {}, "answers": []}),
    }


def _chosen(systems: Mapping[str, Sequence[Figure]], detail: bool) -> dict[str, list[Figure]]:
    """The systems' figures that are details, or those that are not."""
    return {name: [row for row in rows if row.measure.detail == detail] for name, rows in systems.items()}


def _answers_of(several: Compared, runs: Sequence[RunContent]) -> list[tuple[str, str, list[Finding]]]:
    """Of several systems what each says against the first: a title, the answer, and what each task says."""
    tasks = dict.fromkeys(task for run in runs for task in headline_tasks(run.final))
    answers = []
    for name in dict.fromkeys(row.system for row in several.differences):
        found = findings(several.of(name), tasks)
        answers.append((f"{name} against {several.of(name)[0].reference}", answer(found), found))
    return answers


def _examples(run: RunContent) -> dict[str, Any]:
    """Examples that changed, and what was generated."""
    predictions = run.predictions
    sides = list(predictions.values()) or [{}]
    found = changed_predictions(sides[0], sides[-1])
    return {
        "changes": {kind: examples for kind, examples in found.items() if examples},
        "names": [next(iter(predictions), ""), next(reversed(predictions), "")],
        "answers": generated_answers(run.final, predictions),
    }


def chances_of(runs: Sequence[RunContent]) -> Levels:
    """Return what guessing gives on the runs' examples."""
    found: Levels = {}
    for run in runs:
        last = next(reversed(run.predictions.values()), {})
        records = {
            task: {lang: list(levels.values()) for lang, levels in languages.items()}
            for task, languages in last.items()
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
    if len(run.results) >= 2:
        return f"Dense against {next(reversed(run.results))}"
    if run.results:
        return f"The {next(iter(run.results))} model, evaluated"
    return "Which features are large where" if run.overlap else "What was pruned"


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
    subcommand = "fit" if run.sweep or run.study or len(run.results) >= 2 else "test" if run.results else "validate"
    return f"{program()} {subcommand} --config {shlex.quote(f'{run.name}/config.yaml')}"
