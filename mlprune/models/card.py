"""Model cards: a header as the hub reads it, and what people need to know of a pruned model."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlprune.files import write_text
from mlprune.languages import language, language_name
from mlprune.text import visible

CARD = "README.md"
HERE = "this folder, or its id on the hub"  # in the snippet that loads the model, until it is pushed
TEMPLATE = """---
{header}---

# {base_model}, {what}

Pruned by mlprune with {importance}, {training}; the recipe is in `mlprune.json`.

## Results

{results}

## How to load it

It needs nothing of mlprune:

```python
from transformers import {auto}, AutoTokenizer

name = "{here}"
model, tokenizer = {auto}.from_pretrained(name), AutoTokenizer.from_pretrained(name)
```

## How it was made

{made}

## What it is not

- {size}
- Not better than its base model in any language or task unless the results above say so with an interval; languages and
  tasks that are not listed were not evaluated.
- Not checked again for safety: what the base model was tuned to do or to refuse may have changed; its biases remain.

## License

{license_line} {notice}
"""

ZEROS = (
    "{percent:.1f}% of the prunable weights set to zero",
    "Not smaller or faster by itself: the zeros are stored and multiplied like any other weight.",
)
FEWER_EXPERTS = (
    "without {percent:.1f}% of the weights of its blocks, in experts",
    "Not faster by itself: as many experts as before work on a token; the checkpoint is smaller by those removed.",
)


@dataclass(frozen=True)
class Facts:
    """What a card says besides the recipe.

    Args:
        base: ``base_model`` (for people, never a path), ``hub_id``, ``license``, ``license_name``, ``license_link`` and
            ``notice`` of the base model, as :meth:`mlprune.models.loading.ModelSource.card` returns them.
        encoder_decoder: Whether it has an encoder.
        languages: Codes of the languages that it was calibrated or evaluated in.
        datasets: Hub ids of the data sets used.
        calibration: Group to where its prompts came from.
        results: Markdown; empty if it was not evaluated.
    """

    base: Mapping[str, str]
    encoder_decoder: bool = False
    languages: Sequence[str] = ()
    datasets: Sequence[str] = ()
    calibration: Mapping[str, str] = field(default_factory=dict)
    results: str = ""


def write_card(folder: Path, recipe: Mapping[str, Any], facts: Facts) -> None:
    """Write the model card and the base model's notice into a checkpoint.

    Args:
        folder: The checkpoint.
        recipe: What ``mlprune.json`` says.
        facts: What else the card says.

    Raises:
        UserError: If a file cannot be written.
    """
    base = {name: escaped(text) for name, text in facts.base.items()}
    known = base.get("license_name") or base.get("license")
    what, size = FEWER_EXPERTS if recipe.get("experts") else ZEROS
    text = TEMPLATE.format(
        header=card_header(facts, ("pruned", "mlprune")),
        base_model=base["base_model"],
        notice=base.get("notice", ""),
        what=what.format(percent=100 * recipe["sparsity"]),
        size=size,
        importance=escaped(recipe["importance"]),
        training="then trained with the zeros held" if recipe.get("trained") else "without training",
        results=facts.results or "It was not evaluated by the run that wrote this card.",
        auto="AutoModelForSeq2SeqLM" if facts.encoder_decoder else "AutoModelForCausalLM",
        here=HERE,
        made="\n".join(f"- {line}" for line in _made(recipe, facts)),
        license_line=f"As the base model's: {known}."
        if known
        else "As the base model's, which its files do not state.",
    )
    write_text(folder / CARD, text.replace(" \n", "\n"))
    if notice := facts.base.get("notice"):
        write_text(folder / "NOTICE", "".join(f"{visible(line)}\n" for line in notice.splitlines()))


def card_header(facts: Facts, tags: Sequence[str]) -> str:
    """Return a card's header in YAML; what is not known is left out.

    Example:
        >>> print(card_header(Facts({"base_model": "X", "license": "mit"}, languages=["sw", "zh-Hant"]), ["pruned"]))
        library_name: transformers
        pipeline_tag: text-generation
        license: mit
        language: [sw, zh]
        tags: [pruned]
    """
    base = {name: escaped(text) for name, text in facts.base.items()}
    content: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text2text-generation" if facts.encoder_decoder else "text-generation",
        **{name: base[name] for name in ("license", "license_name", "license_link") if base.get(name)},
        "base_model": base.get("hub_id"),
        "language": list(dict.fromkeys(language(code).primary for code in facts.languages)),
        "datasets": [escaped(name) for name in facts.datasets],
        "tags": list(tags),
    }
    content = {name: value for name, value in content.items() if value}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=None)


def read_header(card: str) -> dict[str, str]:
    """Return the texts in the header of another model's card; empty if it has none that can be read.

    Example:
        >>> read_header("---\\nlicense: mit\\ntags: [a]\\n---\\n# X"), read_header("# X")
        ({'license': 'mit'}, {})
    """
    if not card.startswith("---\n"):
        return {}
    try:
        content = yaml.safe_load(card[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return {}
    return (
        {str(key): value for key, value in content.items() if isinstance(value, str)}
        if isinstance(content, dict)
        else {}
    )


def escaped(text: str) -> str:
    """Return one line without markup, so that a name can add neither a line to a card's header nor HTML to its page.

    Example:
        >>> escaped("a<b>\\n# title")
        'a&lt;b&gt; # title'
    """
    return visible(html.escape(" ".join(text.split()), quote=False))


def _made(recipe: Mapping[str, Any], facts: Facts) -> list[str]:
    """How the model was made, a line each."""
    lines = [f"base model: {escaped(facts.base['base_model'])}"]
    shown = ("importance", "pattern", "allocation", "propagate", "seed")
    lines += [f"{name}: `{escaped(str(recipe[name]))}`" for name in shown if name in recipe]
    where = "the blocks" if recipe.get("experts") else f"{len(recipe.get('layers', {}))} layers"
    lines.append(f"sparsity: {100 * recipe['sparsity']:.2f}% of the weights of {where}")
    for group, entry in recipe.get("calibration", {}).items():
        origin = f", from {escaped(facts.calibration[group])}" if facts.calibration.get(group) else ""
        size = f"{entry['prompts']} prompts of {entry['tokens']} tokens in all"
        lines.append(f"calibration data, group `{escaped(group)}`: {size}{origin} (SHA-256 {entry['sha256']})")
    named = ", ".join(escaped(language_name(code)) for code in facts.languages)
    return [*lines, *([f"languages of calibration and evaluation: {named}"] if named else [])]
