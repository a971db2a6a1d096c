"""The matrix of ablated by measured language: what a model loses without a language's units, or as many random ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mlprune.analysis.lape import random_units
from mlprune.callbacks.console import print_tables
from mlprune.callbacks.language_units import LanguageUnits
from mlprune.comparison import compare, read_differences
from mlprune.errors import UserError
from mlprune.experiments.dense import PREDICTIONS, has_dense, keep_dense
from mlprune.experiments.stages import Stages
from mlprune.files import whole_file, write_text
from mlprune.interventions import Intervention, UnitAblation
from mlprune.log import log
from mlprune.present import to_csv
from mlprune.present.ablation import Ablated, ablation_csv, ablation_maps, ablation_tables
from mlprune.run import Run
from mlprune.runs.unfinished import Unfinished
from mlprune.studies.store import RESULTS, move_evaluation


class Ablations:
    """Evaluates a model as it is, without the units of each language, and without as many random ones.

    Writes ``ablation.csv`` (a line an ablated language, set of units, task, measured language and metric),
    ``figures/ablation.png``, and ``ablations/<language>/units`` and ``.../random`` with results.json and predictions.
    The whole model's results are results.dense.json and predictions.dense. A resumed run evaluates only what is not
    there.

    Args:
        run: The run, whose data has been read.
        analysis: The callback that finds the units.
        stages: The stages that the phases run.
    """

    def __init__(self, run: Run, analysis: LanguageUnits, stages: Stages) -> None:
        self.run = run
        self.analysis = analysis
        self.stages = stages

    def conduct(self) -> None:
        """Go through all evaluations, announcing each."""
        languages = [demonstrations.languages()[0] for demonstrations in self.run.data.demonstrations.values()]
        number, total = 2, 2 + 2 * len(languages)
        known = self.run.resumes and has_dense(self.run.folder)
        log.info("(1/%d) %s", total, "the whole model was evaluated before" if known else "evaluating the whole model")
        if not known:
            self.stages.evaluate()
            self._keep(partial(keep_dense, self.run.folder))
        log.info("(2/%d) counting activations", total)
        self.stages.validate(self.analysis)
        if not any(self.analysis.chosen.values()):
            rate = self.analysis.rates["top_rate"]
            raise UserError(f"LanguageUnits: no language has a unit at top_rate {rate}; give a higher one")
        for lang in languages:
            for name, units in self._sets(lang).items():
                number += 1
                what = f"the units of {lang}" if name == "units" else "as many random units"
                if not units:
                    log.info("(%d/%d) %s has no units", number, total, lang)
                elif self.run.resumes and (self._folder(lang, name) / RESULTS).is_file():
                    log.info("(%d/%d) evaluated before without %s", number, total, what)
                else:
                    log.info("(%d/%d) evaluating without %s", number, total, what)
                    self._evaluate(UnitAblation(units), self._folder(lang, name))

    def _sets(self, lang: str) -> dict[str, dict[int, list[int]]]:
        """What is ablated: the units of a language, and as many random ones."""
        chosen = self.analysis.chosen
        others = random_units(chosen, lang, self.analysis.widths, self.analysis.seed)
        return {"units": chosen[lang], "random": others}

    def _folder(self, lang: str, name: str) -> Path:
        return self.run.folder / "ablations" / lang / name

    def _evaluate(self, intervention: Intervention, target: Path) -> None:
        run = self.run
        with self._intervening(intervention):
            run.trainer.test(run.module, datamodule=run.data, verbose=False)
        self._keep(partial(move_evaluation, run.folder, target))

    @contextmanager
    def _intervening(self, intervention: Intervention) -> Iterator[None]:
        module, before = self.run.module, list(self.run.module.interventions)
        module.add_intervention(intervention)
        self.run.is_part = True
        try:
            yield
        finally:
            self.run.is_part = False
            module.end_interventions()
            module.interventions[:] = before

    def _keep(self, move: Callable[[], None]) -> None:
        """Put an evaluation's files in their place; the next one starts without records."""
        if self.run.writes:
            Unfinished(self.run.folder).forget_records(self.run.module.pruning_stage)
            move()
        self.run.barrier("ablated")

    def write(self) -> list[dict[str, Any]]:
        """Write ablation.csv and the figure, show the tables, and return the rows of ablation.csv."""
        folder, rows = self.run.folder, self._rows()
        write_text(folder / "ablation.csv", to_csv(ablation_csv(rows)))
        with self.run.viewer("figures/ablation.png"), whole_file(folder / "figures" / "ablation.png") as partial_file:
            ablation_maps(rows).savefig(partial_file, dpi=120, format="png")
        with self.run.viewer("console table"):
            print_tables(ablation_tables(rows))
        return [row.to_json() for row in rows]

    def _rows(self) -> list[Ablated]:
        whole, rows = self.run.folder / PREDICTIONS, []
        for lang, units in self.analysis.chosen.items():
            if not units:
                continue
            ablated, other = (self._folder(lang, name) / "predictions" for name in ("units", "random"))
            names = f"without {lang}", f"without random ({lang})"
            size = sum(map(len, units.values()))
            for name, before, after, systems in (
                ("units", whole, ablated, ("whole", names[0])),
                ("random", whole, other, ("whole", names[1])),
                ("units against random", other, ablated, names[::-1]),
            ):
                found = read_differences(compare(before, after, self.run.data.seed, systems))
                rows += [Ablated(lang, name, size, row) for row in found]
        return rows
