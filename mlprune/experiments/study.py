"""A study: many recipes, chosen on some rows and judged once on others; a sweep is the simplest one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mlprune.callbacks.calibration import RecipeCalibration
from mlprune.callbacks.console import print_line, print_tables
from mlprune.comparison.schema1 import read_sweep
from mlprune.errors import UserError
from mlprune.experiments.dense import find_dense
from mlprune.experiments.entries import entries_of
from mlprune.experiments.evaluations import Evaluations
from mlprune.experiments.recipe_controls import controls_of
from mlprune.experiments.stages import Stages
from mlprune.experiments.variants import Variant
from mlprune.files import whole_file, write_json
from mlprune.inputs import model_parts, plain
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.present import curves_of, curves_table
from mlprune.present.figures import sparsity_curves
from mlprune.present.study import leaderboard
from mlprune.run import Run
from mlprune.runs.content import read_study
from mlprune.runs.facts import digest
from mlprune.runs.inputs import Part
from mlprune.runs.reading import SCHEMA_VERSION, read_json
from mlprune.studies.judging import Entry, Judge, against_of, next_round
from mlprune.studies.looks import STUDY, Looks, find_looks, hash_of
from mlprune.studies.outcome import conclude, write_outcome
from mlprune.studies.plan import CONFIRM, check_entries, check_left_out, make_plan
from mlprune.studies.recipes import in_recipe
from mlprune.studies.rows import check_calibration
from mlprune.studies.screening import SCREENED, Screen
from mlprune.studies.spec import Select, Study
from mlprune.studies.store import Store, check_covered

NUM_CONTROLS = 5  # at most, of a recipe
Phase = tuple[str, Callable[[], None]]  # caption, work


class StudyExperiment:
    """The phases of ``fit`` with a study, after the dense evaluation.

    Args:
        run: The run.
        study: What is declared.
        variants: Every recipe with every calibration seed.
        stages: The stages that the phases run.
        schedule: The callback that calibrates.
        dense: Folder of a run that has the dense model's results, whose looks count too.
    """

    def __init__(
        self,
        run: Run,
        study: Study,
        variants: Sequence[Variant],
        stages: Stages,
        schedule: RecipeCalibration,
        dense: Path | None = None,
    ) -> None:
        self.run = run
        self.study = study
        self.variants = list(variants)
        self.stages = stages
        self.schedule = schedule
        self.dense = dense
        self.base = run.module
        self.entries = entries_of(self.variants, self.base, run.data.tasks)
        self.against = against_of(self.entries, study.endpoint)
        self.looks: Looks | None = None
        self._chosen: list[Entry] = []
        self._gains: list[dict[str, float]] = []
        self._left: list[str] = []  # captions of phases that need the results of all parts

    def check(self) -> None:
        """Raise UserError if recipes do not fit the model or the prompts; before anything is read of the rows."""
        if self.study.part[1] > len(self.judged):
            raise UserError(f"study.shard {self.study.shard}: there are {len(self.judged)} recipes; give fewer parts")
        for entry in (entry for entry in self.entries if entry.endpoint and self.study.endpoint is None):
            raise UserError(f"study.recipes.{entry.name}.endpoint needs study.endpoint: say what decides")
        for variant in self.variants:
            source = variant.module.source
            if source.recipe():
                raise UserError(f"model.name '{source.name}' is pruned already; give the dense model")
            variant.pruner.check_groups(list(variant.data.demonstrations), "data.demonstrations has")
        for variant in {id(variant.recipe): variant for variant in self.variants}.values():
            model = variant.module.model or variant.module.source.skeleton()
            variant.pruner.select(find_blocks(model))  # refuses what does not fit the layers

    def declare(self) -> None:
        """Fix what is evaluated on which rows, before any model is loaded, and write it down.

        Raises:
            UserError: If the endpoint or rows do not exist, rows are not kept apart, or were looked at before.
        """
        run, study = self.run, self.study
        for variant in self.variants:
            for intervention in variant.interventions:
                known = [task for task in run.data.tasks if intervention.covers(task)]
                intervention.prepare(known, variant.module.tokenizer)
        if study.endpoint is not None:
            check_entries(self.entries, study.endpoint, run.data.tasks)
        check_left_out(self.entries, study.endpoint, run.data.tasks)
        for entry in (entry for entry in self.entries if entry.left_out):
            left_out = ", ".join(entry.left_out)
            log.info("recipe '%s' is not evaluated on %s: its interventions do not work there", entry.name, left_out)
        examples = {task.name: run.data.examples(task) for task in run.data.tasks}
        self.plan = make_plan(study, run.data.tasks, examples, len(self.judged), run.data.seed)
        self._check_tokenizers()
        for variant in self.variants:
            variant.data.choose_prompts(variant.module.tokenizer)
            if study.endpoint is not None and variant.prunes and variant.pruner.importance.needs is not None:
                check_calibration(examples, self.plan.parts.values(), variant.data.calibration_texts())
        if CONFIRM in self.plan.parts and run.writes:  # others do not know the folder yet, and write no look down
            judging = self.plan.parts[CONFIRM]
            rows = hash_of(examples, {task: judging[task] for task in self.plan.deciding})
            looks = find_looks(rows, plain(study.endpoint), self._earlier(), run.folder)
            looks.check(study.look_again)
            self.looks = None if self._only_selects else looks
        if self.dense is not None:
            check_covered(find_dense(self.dense)[1], examples, self.plan.parts.values())
        run.data.evaluate_parts(list(self.plan.parts.values()))

    def _check_tokenizers(self) -> None:
        """Refuse tasks that the tokenizer of a recipe's own model does not suit."""
        modules = {variant.recipe.folder: variant.module for variant in self.variants}
        for entry in (entry for entry in self.entries if entry.dense):
            names = [name for part in self.plan.parts.values() for name in entry.rows(part, self.plan.deciding)]
            with in_recipe(entry.name):
                self.run.data.check_tokenizer(modules[entry.folder].tokenizer, dict.fromkeys(names))

    def other_models(self) -> dict[str, Part]:
        """Return the settings and files of the recipes' own models, to which a resumed run is held."""
        modules = {variant.module: variant.recipe.name for variant in reversed(self.variants)}
        return {
            f"recipe '{name}', {part}": content
            for module, name in modules.items()
            if module is not self.base
            for part, content in model_parts(module).items()
        }

    def _earlier(self) -> list[Path]:
        """Folders of studies whose looks count: those named, the dense model's, and the run's neighbours."""
        named = [Path(folder) for folder in self.study.earlier]
        for folder in named:
            if not (folder / STUDY).is_file():
                raise UserError(f"study.earlier: '{folder}' holds no {STUDY}; give the folder of a study")
        beside = sorted(path.parent for path in self.run.folder.parent.glob(f"*/{STUDY}"))
        found = [*named, *([self.dense] if self.dense is not None else []), *beside]
        return [folder for folder in found if not self._is_sibling(folder)]

    @property
    def judged(self) -> list[Entry]:
        """The recipes that are judged: all but the one that they are judged against."""
        return [entry for entry in self.entries if entry is not self.against]

    @property
    def references(self) -> list[Entry]:
        """What recipes are judged against, where it is a recipe."""
        return [self.against] if self.against is not None else []

    @property
    def id(self) -> str:
        """What all parts of a study have in common."""
        study, entries = self.study, [entry.to_json() for entry in self.entries if entry.control is None]
        return digest([plain(part) for part in (study.endpoint, study.select, study.confirm, study.seeds, entries)])

    def _is_sibling(self, folder: Path) -> bool:
        """Whether a folder holds another part of this study, whose look is the same."""
        there, part = read_json(folder / STUDY), self.study.shard
        return part is not None and there.get("id") == self.id and there.get("shard") not in (None, part)

    def phases(self) -> list[Phase]:
        """Return what is done after the dense evaluation, with captions."""
        known = self.variants, self.entries
        self.evaluations = Evaluations(self.run, self.plan, *known, self.stages, self.schedule, self.judge)
        place, total = self.study.part
        self._chosen = self.judged[place::total]
        self.evaluations.expect(self._expected())
        choosing: list[Phase] = [
            (
                f"selection, round {number + 1} of {len(self.plan.rounds)}"
                if self.plan.top
                else "evaluating all recipes",
                partial(self._select, number),
            )
            for number in range(len(self.plan.rounds))
        ]
        judging: list[Phase] = []
        if CONFIRM in self.plan.parts:
            judging.append(("confirming the chosen recipes", self._confirm))
            judging += [("controls of the confirmed recipes", self._control)] if self.study.controls else []
        if self.study.shard is not None:
            alone = [] if self._only_selects else judging[:1]
            judging, self._left = alone, [caption for caption, _ in judging[len(alone) :]]
        return [*choosing, *judging]

    def _expected(self) -> dict[str, int]:
        """About how many recipes are evaluated on each part of the rows."""
        plan, here = self.plan, len(self._chosen)
        found = {
            part: here if self._only_selects else min(step.recipes, here)
            for part, step in zip(plan.select_parts, plan.rounds, strict=True)
        }
        if CONFIRM in plan.parts and not self._only_selects:
            top = min(plan.top, here)
            found[CONFIRM] = top * (1 + NUM_CONTROLS * (self.study.controls and self.study.shard is None))
            found |= {SCREENED: top} if (self.study.select or Select()).screen is not None else {}
        return {part: number + len(self.references) for part, number in found.items()}

    @property
    def _only_selects(self) -> bool:
        """Whether this is a part of a study that confirms recipes, which are chosen among those of all parts."""
        return self.study.shard is not None and bool(self.plan.top and self.plan.rounds)

    def _select(self, number: int) -> None:
        parts = self.plan.select_parts
        self.evaluations.evaluate([*self.references, *self._chosen], parts[number], f"round {number + 1}")
        if self.study.endpoint is None:
            return
        judge, seen = self.judge(), parts[: number + 1]
        gains = self.evaluations.agreed(lambda: {entry.name: judge.gain(entry, seen) for entry in self._chosen})
        self._gains.append(gains)
        if self.plan.top and not self._only_selects:
            self._chosen = next_round(self._chosen, gains, self.plan.rounds, number, self.plan.top)

    def _confirm(self) -> None:
        """Look at the confirmation rows: first the look is written down, so that no crash hides it."""
        if self.run.writes:
            write_json(self.run.folder / STUDY, self.declared())
        judged = [*self.references, *self._chosen]
        self.evaluations.evaluate(judged, CONFIRM, "confirmation")
        judge = self.judge()
        if (screen := judge.screen) is not None:
            names = self.evaluations.agreed(
                lambda: [entry.name for entry in judged if screen.has_rows(judge.dense(entry))]
            )
            left = [entry for entry in judged if entry.name in names]
            self.evaluations.evaluate(left, SCREENED, "rows that were screened")

    def _control(self) -> None:
        """Evaluate the controls of the confirmed recipes on the rows that these were judged by."""
        chosen = {entry.folder for entry in self._chosen}
        controls = controls_of([variant for variant in self.variants if variant.recipe.folder in chosen])
        entries = entries_of([*self.variants, *controls], self.base, self.run.data.tasks)[len(self.entries) :]
        self.evaluations.add(controls, entries)
        self.evaluations.evaluate(entries, CONFIRM, "control")
        self.entries += entries

    def judge(self, is_over: bool = False) -> Judge:
        """Return what reads the records; once recipes are chosen, also of what was screened before."""
        select, data = self.study.select or Select(), self.run.data
        margin, parts = select.screen, {part: self.plan.parts[part] for part in self.plan.select_parts}
        screen = None if margin is None else Screen(margin, parts, is_over)
        return Judge(Store(self.run.folder), self.study.endpoint, select.metric, data.seed, self.against, screen)

    def declared(self) -> dict[str, Any]:
        """Return the part of study.json that is known before anything is concluded."""
        study = self.study
        return {
            "schema_version": SCHEMA_VERSION,
            "question": study.question,
            "endpoint": study.endpoint and asdict(study.endpoint),
            "select": study.select and asdict(study.select),
            "confirm": study.confirm and asdict(study.confirm) | {"top": self.plan.top},
            "seeds": study.seeds or [self.run.data.seed],
            "id": self.id,
            "shard": study.shard,
            "seed": self.run.data.seed,
            "rounds": [asdict(step) for step in self.plan.rounds],
            "sizes": dict(self.plan.sizes),
            "recipes": [entry.to_json() for entry in self.entries],
            **(self.looks.to_json() if self.looks is not None else {"looks": {}, "look_ids": {}}),
        }

    def _write_shard(self) -> dict[str, Any]:
        """Say that this is a part, of which nothing can be claimed."""
        answer = f"Part {self.study.shard} of a study; `mlprune report` with the folders of all parts merges them."
        content = self.declared() | {"gains": self._gains, "left": self._left, "answer": answer}
        write_json(self.run.folder / STUDY, content)
        print_line(answer, "bold")
        return content

    def write(self) -> dict[str, Any]:
        """Conclude, write study.json and study.csv, show the leaderboard and the answer, and return study.json."""
        folder = self.run.folder
        chosen = [entry.name for entry in self._chosen] if CONFIRM in self.plan.parts else []
        if self.study.shard is not None:
            return self._write_shard()
        looks = self.looks.count if self.looks is not None else 1
        outcome = conclude(self.judge(is_over=True), self.entries, self.plan.select_parts, self._gains, chosen, looks)
        content = write_outcome(folder, self.declared(), outcome)
        tables = leaderboard(content)
        if curves := curves_of(read_sweep(read_study(folder)[2])):
            tables.append(curves_table(curves))
            with self.run.viewer("figures/sweep.png"), whole_file(folder / "figures" / "sweep.png") as partial:
                sparsity_curves(curves).savefig(partial, dpi=120, format="png")
        with self.run.viewer("console table"):
            print_tables(tables)
            print_line(outcome.answer, "bold")
        return content
