"""What pruning writes into the run's folder: masks and the pruned checkpoint, in memory or streamed."""

import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mlprune.data.corpora import Corpus
from mlprune.distributed import broadcast_object
from mlprune.files import write_json
from mlprune.inputs import plain
from mlprune.models.card import CARD, Facts, write_card
from mlprune.models.saving import RECIPE, save_checkpoint
from mlprune.pruning import save_masks
from mlprune.pruning.streaming import StreamedPruning
from mlprune.run import Run
from mlprune.runs.facts import describe

MASKS, PRUNED, HIDDEN = "masks.safetensors", "pruned", ".hidden"


def write_masks(run: Run) -> None:
    """Write the masks of a model in memory, on one process."""
    if run.writes:
        save_masks(run.module.masks, run.folder / MASKS)


def write_checkpoint(run: Run) -> None:
    """Write the pruned checkpoint of a model in memory, on one process, unless an earlier start of the run has."""
    target = run.folder / PRUNED
    if run.module.split is not None:
        if not broadcast_object(target.exists()):
            run.module.split.save(target, partial(_describe, run), run.writes)
    elif run.writes and not target.exists():
        save_checkpoint(run.model, run.module.tokenizer, target, partial(_describe, run))
    run.barrier("saved")


def _describe(run: Run, checkpoint: Path) -> None:
    """Write the recipe, and the model card, without which a checkpoint is complete too."""
    (checkpoint / CARD).unlink(missing_ok=True)  # the base model's
    write_json(checkpoint / RECIPE, run.module.recipe)
    with run.viewer("model card"):
        write_card(checkpoint, run.module.recipe, card_facts(run))


def write_results_card(run: Run, results: str) -> None:
    """Write the card of the run's pruned checkpoint again, with what its evaluation found; on one process.

    Args:
        run: The run, which may have kept no checkpoint.
        results: Markdown.
    """
    target = run.folder / PRUNED
    if (target / RECIPE).is_file():
        with run.viewer("model card"):
            write_card(target, run.module.recipe, replace(card_facts(run), results=results))


def base_facts(run: Run) -> dict[str, Any]:
    """Return how mlprune.json begins: which model was given, and what made it smaller before it was pruned."""
    given = run.module.given
    return {
        "schema_version": 1,
        "base_model": given.name,
        "hub_id": given.hub_id,
        **({"smaller": plain(run.module.smaller)} if run.module.smaller else {}),
        "revision": given.revision,
    }


def card_facts(run: Run) -> Facts:
    """Return what a run knows of its model beside the recipe: its base, its data and their languages."""
    data = run.data
    demonstrations = [*data.demonstrations.values(), *data.training.values()]
    used = [(source.corpus, lang) for source in demonstrations for lang in source.languages()]
    used += [(task.corpus, lang) for task in data.tasks for lang in task.languages]
    names = [corpus.hub_id(lang) for corpus, lang in used]
    return Facts(
        run.module.source.card(),
        run.module.source.has_encoder(),
        list(dict.fromkeys(lang for _, lang in used)),
        list(dict.fromkeys(name for name in names if name)),
        {
            group: ", ".join(
                [describe(source), *(public_origin(source.corpus, lang) for lang in dict.fromkeys(source.languages()))]
            )
            for group, source in data.demonstrations.items()
        },
    )


def public_origin(corpus: Corpus, lang: str) -> str:
    """Return where a language's rows come from, without the folders of this machine.

    Example:
        >>> from mlprune.data.corpora import LocalFiles
        >>> public_origin(LocalFiles("/home/me/secret/{lang}.jsonl"), "fr")
        'fr.jsonl'
    """
    return corpus.hub_id(lang) or re.sub(r"\S*/", "", corpus.origin(lang))


def open_stream(run: Run, save_model: bool, hidden_on_disk: bool) -> StreamedPruning:
    """Begin to read, prune and write the model block by block.

    Args:
        run: The run.
        save_model: Write the pruned checkpoint, unless an earlier start of the run has.
        hidden_on_disk: Keep hidden states in files.
    """
    source, folder, target = run.module.source, run.folder, run.folder / PRUNED
    return StreamedPruning(
        source.checkpoint,
        target if run.writes and save_model and not target.exists() else None,
        source.dtype,
        run.device,
        folder / MASKS if run.writes else None,
        folder / HIDDEN / str(run.trainer.global_rank) if hidden_on_disk else None,
    )


def finish_stream(run: Run, stream: StreamedPruning) -> None:
    """Give what was streamed its names."""
    stream.finish(partial(_describe, run))
    _remove_hidden(run)


def abandon_stream(run: Run, stream: StreamedPruning) -> None:
    """Remove what was streamed so far."""
    stream.abandon()
    _remove_hidden(run)


def _remove_hidden(run: Run) -> None:
    if run.writes:
        shutil.rmtree(run.folder / HIDDEN, ignore_errors=True)
