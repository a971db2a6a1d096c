"""Search settings that a generation request may have: greedy or beam search."""

from collections.abc import Mapping
from typing import Any

from mlprune.errors import UserError

LENGTHS = ("until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens", "max_length")
# what changes nothing where nothing is drawn
IDLE = ("do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "use_cache", "attention_mask")


def beams_of(options: Mapping[str, Any]) -> int:
    """Return the number of beams in generation_kwargs.

    Args:
        options: A request's ``generation_kwargs``.

    Raises:
        UserError: If they request anything but greedy or beam search.

    Example:
        >>> beams_of({"until": ["."], "do_sample": False, "temperature": 0.0})
        1
    """
    if options.get("do_sample") or options.get("temperature"):
        name = "do_sample" if options.get("do_sample") else "temperature"
        raise UserError(
            f"generation_kwargs: {name} {options[name]} is not allowed: mlprune generates greedily; set do_sample to "
            "false and leave temperature out"
        )
    others = [name for name in options if name not in (*LENGTHS, *IDLE, "num_beams")]
    if others:
        raise UserError(f"generation_kwargs: {', '.join(others)} cannot be had with greedy search; leave it out")
    return int(options.get("num_beams") or 1)
