"""From runs to one HTML page: sections in reading order; a section without data is left out."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mlprune.comparison import read_differences, read_figures
from mlprune.files import write_text
from mlprune.invocation import program
from mlprune.languages import language_name
from mlprune.metrics import Figure
from mlprune.present import comparison_tables, figure_tables, to_html
from mlprune.report.changes import changed_predictions, generated_answers
from mlprune.report.features import feature_section
from mlprune.report.figures import layer_figures, result_figures
from mlprune.report.headline import headline, question
from mlprune.report.sweep import sweep_section
from mlprune.report.tables import layer_summary, settings_rows
from mlprune.runs.content import RunContent
from mlprune.text import visible

MAX_BYTES = 3_000_000


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
    environment.filters["table"] = lambda table: Markup(to_html(table))
    runs = distinctly_named(runs)
    systems = named_systems(runs)
    content: dict[str, Any] = {
        "title": title_of(runs),
        "runs": runs,
        "questions": list(dict.fromkeys(filter(None, map(question, runs)))),
        "headlines": [(run.name, headline(run)) for run in runs if headline(run)],
        "settings": settings_rows(runs),
        "comparisons": comparison_tables(read_differences(runs[0].comparison)) if len(runs) == 1 else [],
        "tables": figure_tables(systems),
        "figures": result_figures(systems),
        "layer_figures": layer_figures(runs),
        "layer_rows": layer_summary(runs[0]) if len(runs) == 1 else [],
        "changes": {},
        "answers": [],
        "sweep": sweep_section(runs[0]) if len(runs) == 1 else None,
        "features": feature_section(runs[0]) if len(runs) == 1 else None,
        "prunes": any(run.pruned for run in runs),
        "commands": [(run.name, command(run)) for run in runs],
    }
    if len(runs) == 1:
        predictions = runs[0].predictions
        if len(predictions) == 2:
            before, after = predictions.values()
            found = changed_predictions(before, after)
            content["changes"] = {kind: examples for kind, examples in found.items() if examples}
        content["names"] = list(predictions)
        content["answers"] = generated_answers(runs[0].final, predictions)
    return environment.get_template("report.html").render(content)


def title_of(runs: Sequence[RunContent]) -> str:
    """Say in a few words what the runs hold."""
    if len(runs) > 1:
        return f"{len(runs)} runs side by side"
    run = runs[0]
    if run.sweep:
        return "Dense against pruned, by sparsity"
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
    subcommand = "fit" if run.sweep or len(run.results) == 2 else "test" if run.results else "validate"
    return f"{program()} {subcommand} --config {shlex.quote(f'{run.name}/config.yaml')}"
