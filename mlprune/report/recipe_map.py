"""Recipes by languages as colored cells: red where worse, green where better, pale where that may be chance."""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.patches import Rectangle

from mlprune.present.rows import language_labels, pivot_of, title_of
from mlprune.present.study import by_language, mean_difference
from mlprune.report.charts import BAD, GOOD, INK, RULE, SETTINGS, axes_of, to_svg
from mlprune.text import plot_text

DARKEST, PALEST = 0.75, 0.2  # opacity of the largest difference where it is clear, and where it may be chance


def recipe_maps(lines: Sequence[Mapping[str, str]], role: str, metric: str | None) -> list[tuple[str, str]]:
    """Return title and SVG of a map for each task that has the measure.

    Args:
        lines: Lines of study.csv.
        role: ``select`` or ``confirm``.
        metric: The measure that decides; if None, each task's first.
    """
    found = []
    tables = by_language(lines, role)
    firsts = dict(reversed(tables))
    for (task, name), recipes in tables.items():
        if name != (metric or firsts[task]):
            continue
        rows = [row for languages in recipes.values() for cell in languages.values() for row in cell]
        measure, languages = rows[0].measure, list(dict.fromkeys(row.language for row in rows))
        cells = {
            (recipe, lang): mean_difference(rows_of[lang])
            for recipe, rows_of in recipes.items()
            for lang in languages
            if lang in rows_of
        }
        largest = max((abs(cell[0]) for cell in cells.values() if cell is not None), default=0.0) or 1.0
        better = -1 if measure.higher_is_better is False else 1
        labels = language_labels(languages, pivot_of(rows))
        with matplotlib.rc_context(SETTINGS):
            figure, axes = axes_of(2.2 + 0.75 * len(languages), 0.6 + 0.32 * len(recipes))
            for (recipe, lang), cell in cells.items():
                if cell is None:
                    continue
                delta, is_clear = cell
                x, y = languages.index(lang), list(recipes).index(recipe)
                color = GOOD if better * delta > 0 else BAD
                opacity = (DARKEST if is_clear else PALEST) * abs(delta) / largest
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, alpha=opacity, edgecolor="none"))
                said = f"{measure.text(delta, sign=True)}{'*' * is_clear}"
                axes.text(x, y, said, ha="center", va="center", fontsize=9, color=INK)
            axes.set_xlim(-0.5, len(languages) - 0.5)
            axes.set_ylim(len(recipes) - 0.5, -0.5)
            axes.set_xticks(range(len(languages)), ["\n".join(plot_text(label).split()) for label in labels])
            axes.set_yticks(range(len(recipes)), [plot_text(recipe) for recipe in recipes])
            axes.tick_params(length=0, color=RULE)
            for spine in axes.spines.values():
                spine.set_visible(False)
            alt = "Cells: difference from dense by recipe and language; green is better, red is worse, pale is unclear."
            found.append(
                (f"{title_of(task, measure)}: difference from dense by recipe and language", to_svg(figure, alt))
            )
    return found
