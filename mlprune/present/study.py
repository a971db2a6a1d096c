"""Tables of a study, from study.json and study.csv."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlprune.comparison import Difference
from mlprune.comparison.schema1 import read_line
from mlprune.metrics.measure import Measure
from mlprune.present.rows import interval_text, language_labels, p_text, pivot_of, title_of
from mlprune.present.table import Table

Json = Mapping[str, Any]
DETECTABLE, NULL = "detectable", "too few to tell"
Languages = dict[str, list[Difference]]  # language to rows
Cell = Callable[[Json], str]
WHERE_CHOSEN = "difference where chosen"
OVER_BOTH = "over rows and calibration seeds; between seeds: standard deviation"
OVER_ROWS = "over rows; one calibration seed says nothing of others"
STARRED = "* the 95% interval of the difference, not corrected for the number of recipes, excludes zero for every seed"

EACH_DENSE = "each recipe is compared with the dense row above it; models or rows differ"
NOT_EVALUATED = "{} was not evaluated on this task"


def leaderboard(study: Json) -> list[Table]:
    """Return the confirmed recipes with intervals over rows and seeds, best first, selection and controls beside them.

    Args:
        study: The content of study.json.

    Example:
        >>> row = Difference("wanda", "dense", "nli", "fr", Measure("f1"), 0.5, 0.6, 0.1, 0.0, 0.2, 0.04, n=9).to_json()
        >>> row |= {"by_seed": [0.1], "total_low": 0.0, "total_high": 0.2, "p_holm": 0.08, "verdict": "too few to tell"}
        >>> leaderboard({"confirmed": [row], "selection": [row | {"delta": 0.3}]})[0].rows[0][:4]
        ('wanda', '+0.300', '+0.100', '+0.000 to +0.200')
    """
    chosen = {_key(row): row for row in study.get("selection", [])}
    confirmed = sorted(study.get("confirmed", []), key=_order, reverse=True)
    tables = []
    if confirmed:
        has_seeds = any(len(row["by_seed"]) > 1 for row in confirmed)
        notes = [f"{WHERE_CHOSEN}: on the rows that chose the recipe, which overstates it"] if chosen else []
        notes.append(f"95% CI: {OVER_BOTH if has_seeds else OVER_ROWS}")
        has_nulls = any(row["verdict"] == NULL for row in confirmed)
        notes += (
            [f"{DETECTABLE}: the smallest true difference that is found clear in 80% of cases"] if has_nulls else []
        )
        tables.append(_table("Confirmed", confirmed, _confirmed(chosen, has_seeds, has_nulls), notes))
    matched = [row["constants"] for row in confirmed if row.get("constants")]
    controls = [*(found["matched"] | {"beyond": found["beyond"]} for found in matched), *study.get("controls", [])]
    if controls:
        tables.append(_table("Controls", controls, {**DIFFERENCE, **BEYOND}, first="control"))
    if chose := sorted(study.get("selection", []), key=_order, reverse=True):
        tables.append(_table("On the rows that choose", chose, DIFFERENCE))
    return tables


def _table(
    title: str, rows: Sequence[Json], columns: Mapping[str, Cell], notes: Sequence[str] = (), first: str = "recipe"
) -> Table:
    """A row a recipe or control, or one of these by task and language where several decide."""
    places = {(row["task"], row["language"]) for row in rows}
    where: Mapping[str, Cell] = {"where": _place} if len(places) > 1 else {}
    cells: Mapping[str, Cell] = {first: _name, **where, **columns}
    what = _what(rows[0]) if len(places) == 1 else measure_of(rows[0]).label + _reference(rows[0])
    body = [tuple(cell(row) for cell in cells.values()) for row in rows]
    return Table(f"{title}: {what}", tuple(cells), body, tuple(notes))


def _confirmed(chosen: Mapping[tuple[str, str, str], Json], has_seeds: bool, has_nulls: bool) -> dict[str, Cell]:
    """The columns of what was confirmed."""
    before: dict[str, Cell] = {WHERE_CHOSEN: lambda row: _delta(chosen[_key(row)]) if _key(row) in chosen else ""}
    seeds: dict[str, Cell] = {
        "over rows alone": lambda row: interval_text(measure_of(row), row["low"], row["high"], sign=True),
        "between seeds": lambda row: measure_of(row).text(row["seeds_deviation"]),
    }
    return {
        **(before if chosen else {}),
        **DIFFERENCE,
        **(seeds if has_seeds else {}),
        "p": lambda row: p_text(row["p"]),
        "p (Holm)": lambda row: p_text(row["p_holm"]),
        "verdict": lambda row: str(row["verdict"]),
        **({DETECTABLE: _detectable} if has_nulls else {}),
    }


def _detectable(row: Json) -> str:
    """The smallest difference that would have been found, beside what was not."""
    return measure_of(row).text(row.get("detectable")) if row["verdict"] == NULL else ""


def _key(row: Json) -> tuple[str, str, str]:
    return row["system"], row["task"], row["language"]


def _delta(row: Json) -> str:
    return measure_of(row).text(row["delta"], sign=True)


def _interval(row: Json) -> str:
    """The interval over rows and seeds."""
    return interval_text(measure_of(row), row["total_low"], row["total_high"], sign=True)


def _name(row: Json) -> str:
    return str(row["system"])


DIFFERENCE: Mapping[str, Cell] = {"difference": _delta, "95% CI": _interval}
BEYOND: Mapping[str, Cell] = {
    "recipe": lambda row: _name(row["beyond"]),
    "beyond the control": lambda row: _delta(row["beyond"]),
    "95% CI of that": lambda row: _interval(row["beyond"]),
}


def measure_of(row: Json) -> Measure:
    """Return the measure of a row of study.json."""
    return Difference.from_json(dict(row)).measure


def _what(row: Json) -> str:
    measure = measure_of(row)
    where = "" if row["language"] == "average" else f", {row['language']}"
    return f"{row['task']} {measure.label}{where}{_reference(row)}"


def _place(row: Json) -> str:
    return f"{row['task']}, {row['language']}"


def _reference(row: Json) -> str:
    return "" if row["reference"] == "dense" else f", against {row['reference']}"


def _order(row: Json) -> float:
    better = -1 if measure_of(row).higher_is_better is False else 1
    return better * (row["delta"] or 0.0)


def study_csv(lines: Sequence[tuple[Mapping[str, Any], Difference]]) -> Table:
    """Return the lines of study.csv.

    Args:
        lines: What stands before the row (recipe, seed, role, values of the grid), and the row.

    Example:
        >>> row = Difference("wanda", "dense", "nli", "fr", Measure("f1"), 0.5, 0.6, 0.1)
        >>> study_csv([({"recipe": "wanda", "seed": 0, "role": "select"}, row)]).columns[:4]
        ('recipe', 'seed', 'role', 'system')
    """
    content = [dict(before) | row.to_json() for before, row in lines]
    columns = tuple(dict.fromkeys(name for row in content for name in row))
    rows = [tuple("" if row.get(name) is None else str(row[name]) for name in columns) for row in content]
    return Table("", columns, rows)


def by_language(lines: Sequence[Mapping[str, str]], role: str) -> dict[tuple[str, str], dict[str, Languages]]:
    """Return task and measure to recipe to language to its rows, one a calibration seed.

    Args:
        lines: Lines of study.csv.
        role: As for :func:`language_tables`.
    """
    found: dict[tuple[str, str], dict[str, Languages]] = {}
    for line in lines:
        if line["role"] == role and line["seed"] != "all":
            row = read_line(line)
            recipes = found.setdefault((row.task, row.measure.name), {})
            recipes.setdefault(line["recipe"], {}).setdefault(row.language, []).append(row)
    return found


def language_tables(lines: Sequence[Mapping[str, str]], role: str) -> list[Table]:
    """Return a table for each task and measure as papers print them: recipes by languages, dense first.

    A recipe that was not evaluated on a task has empty cells there. Recipes of another model stand below that model.

    Args:
        lines: Lines of study.csv.
        role: ``select``, ``confirm`` or ``control``.

    Example:
        >>> row = Difference("wanda", "dense", "nli", "fr", Measure("f1"), 0.5, 0.6, 0.1, 0.05, 0.15)
        >>> table = study_csv([({"recipe": "wanda", "seed": 0, "role": "confirm"}, row)])
        >>> language_tables([dict(zip(table.columns, cells)) for cells in table.rows], "confirm")[0].rows
        [('dense', '0.500'), ('wanda', '0.600 (+0.100*)')]
    """
    found = by_language(lines, role)
    names = list(dict.fromkeys(name for recipes in found.values() for name in recipes))
    tables = []
    for (task, _), recipes in found.items():
        rows = [row for languages in recipes.values() for found in languages.values() for row in found]
        measure, languages = rows[0].measure, list(dict.fromkeys(row.language for row in rows))
        several = _by_dense(names, recipes)
        body: list[tuple[str, ...]] = []
        for dense, compared in several:
            body.append(("dense", *(measure.text(dense.get(lang)) for lang in languages)))
            body += [
                (name, *(_mean_cell(recipes.get(name, {}).get(lang, [])) for lang in languages)) for name in compared
            ]
        notes = (STARRED, *(NOT_EVALUATED.format(name) for name in names if name not in recipes))
        notes += (EACH_DENSE,) if len(several) > 1 else ()
        labels = language_labels(languages, pivot_of(rows))
        tables.append(Table(title_of(task, measure), ("recipe", *labels), body, notes))
    return tables


def _by_dense(
    names: Sequence[str], recipes: Mapping[str, Languages]
) -> list[tuple[dict[str, float | None], list[str]]]:
    """Dense values by language, each with the recipes compared with them; several where models or rows differ.

    A recipe that was not evaluated stays with those before it.
    """
    found: list[tuple[dict[str, float | None], list[str]]] = []
    for name in names:
        before = {lang: rows[0].before for lang, rows in recipes.get(name, {}).items()}
        same = [entry for entry in found if all(entry[0].get(lang, value) == value for lang, value in before.items())]
        if not same:
            found.append(({}, []))
        dense, compared = same[-1] if same else found[-1]
        dense.update(before)
        compared.append(name)
    return found


def mean_difference(rows: Sequence[Difference]) -> tuple[float, bool] | None:
    """Return the mean difference over seeds, and whether every seed's interval excludes zero on its side."""
    deltas = [row.delta for row in rows if row.delta is not None]
    if not deltas:
        return None
    mean = sum(deltas) / len(deltas)
    return mean, all(row.clear and ((row.delta or 0.0) > 0) == (mean > 0) for row in rows)


def _mean_cell(rows: Sequence[Difference]) -> str:
    """The mean over seeds and its difference from dense; starred where every seed's interval excludes zero."""
    known = [row.after for row in rows if row.after is not None and row.delta is not None]
    difference = mean_difference(rows)
    if not known or difference is None:
        return ""
    measure = rows[0].measure
    return f"{measure.text(sum(known) / len(known))} ({measure.text(difference[0], sign=True)}{'*' * difference[1]})"


def tables_of(study: Json, lines: Sequence[Mapping[str, str]]) -> list[Table]:
    """Return all tables of a study: leaderboard, controls, selection, and recipes by languages.

    Args:
        study: The content of study.json.
        lines: Lines of study.csv.
    """
    role = "confirm" if study.get("confirmed") else "select"
    controls = language_tables(lines, "control")
    return [*leaderboard(study), *language_tables(lines, role), *controls]
