"""Vocabulary trimming: a model with only the tokens that some languages' texts need."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError, reason_of
from mlprune.files import to_json, whole_folder, write_json, write_text
from mlprune.languages import is_language
from mlprune.log import log
from mlprune.models.card import CARD, Facts
from mlprune.models.checkpoint import GENERATION, Checkpoint, read_checkpoint
from mlprune.models.folder import CONFIG, copy_rest, read_object
from mlprune.models.loading import ModelSource
from mlprune.models.saving import check_disk
from mlprune.models.tokenizer import load_tokenizer
from mlprune.smaller.card import trimmed_card
from mlprune.smaller.config_ids import ids_in, renumber_config, with_ids
from mlprune.smaller.cutting import Cuts
from mlprune.smaller.pieces import NewIds, Pieces, pieces_of
from mlprune.smaller.tables import Tables, counts_from_pad, tables_of
from mlprune.smaller.usage import CoveragePoint, Usage, coverage_curve, token_ids, tokens_used

FACTS, KEPT = "trim.json", "kept_ids.json"
CHAT = "chat template"  # what its own words are called among the texts
TURNS = [("system", "Answer."), ("user", "Yes?"), ("assistant", "Yes."), ("user", "No?")]
FUNCTION = {"name": "look_up", "description": "Look it up.", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": FUNCTION}]
REWRITTEN = (  # files that are written anew, and forms of a tokenizer that it is not saved in
    *(CONFIG, GENERATION, CARD, FACTS, KEPT, "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "*.model", "*.spm", "*.tiktoken", "tekken.json", "chat_template*", "*.imatrix"),
)
SHOWN = 60  # characters of a text in a message


@dataclass(frozen=True)
class Trimmed:
    """What trimming a model's vocabulary did.

    Args:
        folder: The trimmed model.
        kept: Ids of the tokens that the model still knows, in the original's numbers; their places are the new ids.
        num_tokens: How many the original knows.
        num_parameters: Numbers in the checkpoint, before and after.
        num_bytes: Their size, before and after.
        usage: Language to the tokens of its texts.
        curve: How far parts of the texts cover held-out ones.
    """

    folder: Path
    kept: list[int]
    num_tokens: int
    num_parameters: tuple[int, int]
    num_bytes: tuple[int, int]
    usage: dict[str, Usage]
    curve: list[CoveragePoint]

    def to_json(self) -> dict[str, Any]:
        """Return the content of trim.json."""
        sizes = {
            "tokens": (self.num_tokens, len(self.kept)),
            "parameters": self.num_parameters,
            "bytes": self.num_bytes,
        }
        return {
            "schema_version": 1,
            **{name: {"before": before, "after": after} for name, (before, after) in sizes.items()},
            "texts": {
                name: {"texts": used.num_texts, "characters": used.num_chars, "tokens": used.num_tokens}
                for name, used in self.usage.items()
            },
            "coverage": [vars(point) for point in self.curve],
        }


def trim_vocabulary(
    model: ModelSource | str,
    target: str | Path,
    texts: Mapping[str, Iterable[str]],
    facts: Mapping[str, Any] = {},
    describe: Callable[[Path], None] | None = None,
) -> Trimmed:
    """Write a model that knows only the tokens that texts need.

    Every text whose tokens are all kept is split into the same tokens, and the logits of kept tokens are the same.
    Other texts are split into smaller pieces. The shards are copied tensor by tensor, so that the model need not fit
    into memory.

    Args:
        model: The model, or its name.
        target: New folder, an ordinary Hugging Face checkpoint; it appears only when complete.
        texts: Language, or what else they are, to texts: corpora, and prompts and templates that the model is to read.
        facts: What trim.json says besides, such as where the texts come from.
        describe: Writes what else is to be in the folder before it has its name.

    Raises:
        UserError: If model or tokenizer is of a kind that cannot be trimmed, nothing can be left out, or the target
            exists.
    """
    source = ModelSource(model) if isinstance(model, str) else model
    tokenizer, checkpoint = source.load_tokenizer(), source.checkpoint
    pieces, tables = pieces_of(tokenizer), tables_of(checkpoint)
    given = {name: list(listed) for name, listed in texts.items()}
    if not any(text for listed in given.values() for text in listed):
        raise UserError("there is no text to choose the tokens by")
    if tokenizer.chat_template:
        given[CHAT] = _chat_texts(tokenizer)
    usage = tokens_used(tokenizer, given)
    new = _new_ids(checkpoint, tables, pieces, usage)
    kept = [index for index in new if index < tables.rows]
    if len(kept) == tables.rows:
        raise UserError(
            f"model.name '{source.name}': the texts need all {tables.rows} tokens; there is nothing to trim"
        )
    rows = torch.tensor(kept)
    cuts = Cuts({name: [(dim, rows)] for name, dim in tables.dims.items()})
    sizes = cuts.sizes(checkpoint.reader)
    check_disk(Path(target).parent, sizes[1][1], "choose a folder on another disk")
    trimmed = Trimmed(Path(target), kept, tables.rows, *sizes, usage, coverage_curve(usage))
    with whole_folder(target) as partial:
        pieces.write(partial, new)
        _check_texts(tokenizer, load_tokenizer(str(partial), source.name, _options(source)), given, new)
        _write_configs(checkpoint, tables, new, partial)
        cuts.write(checkpoint.reader, partial)
        copy_rest(checkpoint.folder, partial, REWRITTEN)
        read_checkpoint(partial, source.trust_remote_code)  # fits its configuration
        write_json(partial / FACTS, {**source.base(), **trimmed.to_json(), **facts})
        write_text(partial / KEPT, to_json(kept, KEPT))
        base = Facts(source.card(), source.has_encoder(), [name for name in given if is_language(name)])
        trimmed_card(partial, base, trimmed.num_tokens, len(kept), list(given))
        if describe is not None:
            describe(partial)
    return trimmed


def kept_ids(folder: Path) -> list[int]:
    """Return the original's id of every token that a trimmed model knows, in the order of its own ids.

    Args:
        folder: The trimmed model.
    """
    found: list[int] = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    return found


def _chat_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return short chats as the tokenizer's templates write them, whose own words stand in no corpus."""
    templates: Any = tokenizer.chat_template  # one, or several by name
    found = []
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        for turns, tools in product((TURNS, TURNS[1:], TURNS[1:2]), (None, TOOLS)):  # some take no system's turn
            messages = [{"role": role, "content": text} for role, text in turns]
            options = {"chat_template": template, "tools": tools, "tokenize": False}
            for is_asked in (False, True):
                try:
                    found.append(
                        str(tokenizer.apply_chat_template(messages, add_generation_prompt=is_asked, **options))
                    )
                except Exception as error:  # templates raise what they like
                    log.debug("the chat template takes no %s: %s", [role for role, _ in turns], reason_of(error))
    return found


def _options(source: ModelSource) -> dict[str, Any]:
    return {"trust_remote_code": source.trust_remote_code, **source.tokenizer_options}


def _new_ids(checkpoint: Checkpoint, tables: Tables, pieces: Pieces, usage: Mapping[str, Usage]) -> dict[int, int]:
    """Every kept token's id to its new one, in the old order."""
    used: set[int] = set().union(*(part.used for part in usage.values()))
    named = ids_in(checkpoint.config.to_dict())
    if (checkpoint.folder / GENERATION).is_file():
        named |= ids_in(read_object(checkpoint.folder / GENERATION))
    used |= {index for index in named if index < tables.rows}
    pad = getattr(checkpoint.config.get_text_config(), "pad_token_id", None)
    if pad is not None and counts_from_pad(checkpoint.skeleton, tables):
        used |= set(range(pad + 1))
    return {old: place for place, old in enumerate(sorted(pieces.complete(used)))}


def _check_texts(
    before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase, texts: Mapping[str, list[str]], new: NewIds
) -> None:
    """Refuse a tokenizer that splits one of the texts otherwise once it has fewer tokens."""
    for name, listed in texts.items():
        for start in range(0, len(listed), 1000):
            batch = [text for text in listed[start : start + 1000] if text]
            expected, found = token_ids(before, batch), token_ids(after, batch)
            for text, old, ids in zip(batch, expected, found, strict=True):
                if [new.get(index) for index in old] != ids:
                    raise UserError(
                        f"{type(before).__name__} splits a text of '{name}' otherwise once it has fewer tokens: "
                        f"{text[:SHOWN]!r}; this tokenizer cannot be trimmed"
                    )


def _write_configs(checkpoint: Checkpoint, tables: Tables, new: NewIds, folder: Path) -> None:
    """Write the configuration and the settings of generation with the new ids; what is no id of the model stays."""

    def change(index: int) -> int:
        return new.get(index, index)

    rows = sum(index < tables.rows for index in new)
    renumber_config(checkpoint.config, change, {tables.rows: rows}).save_pretrained(folder)
    if (checkpoint.folder / GENERATION).is_file():
        settings = read_object(checkpoint.folder / GENERATION)  # as it is: transformers writes back less than it reads
        write_json(folder / GENERATION, with_ids(settings, change, {}))
