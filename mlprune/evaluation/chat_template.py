"""Rendering chat templates: they are programs by third parties, so time, size and date are bounded.

Transformers provides the sandbox; whatever the template does, errors are one line here.
"""

import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from types import FrameType
from typing import Any, cast
from unittest import mock

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from mlprune.errors import UserError, reason_of

DATE = "2025-01-01"  # the current date for templates, fixed so that figures do not change overnight
TIMEOUT_S = 10.0
MAX_CHARS = 1 << 22
MAX_BYTES = 1 << 30  # memory limit of one rendering


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], options: Mapping[str, Any]) -> str:
    """Render messages with the tokenizer's chat template, up to where the assistant's answer begins.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: Each with ``role`` and ``content``.
        options: Template variables; ``date`` (ISO) is the current date for the template.

    Raises:
        UserError: If there is no template, it does not use an option, or it raises, does not finish, produces too much
            text, or omits a line of the messages.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> tokenizer = ByT5Tokenizer()
        >>> tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}"
        >>> render_chat(tokenizer, [{"role": "user", "content": "Hello"}], {})
        '01 Jan 2025 Hello'
        >>> tokenizer.chat_template = "{{ raise_exception('a system turn must come first') }}"
        >>> render_chat(tokenizer, [{"role": "user", "content": "Hello"}], {})
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: the tokenizer's chat template fails: a system turn must come first
    """
    if not tokenizer.chat_template:
        raise UserError("chat_template: true needs a tokenizer with a chat template; this one has none")
    variables = {key: value for key, value in options.items() if key != "date"}
    for key in variables:
        if not re.search(rf"\b{re.escape(key)}\b", str(tokenizer.chat_template)):
            raise UserError(f"chat_template_options.{key} has no effect: the tokenizer's chat template does not use it")
    today = day_of(options.get("date", DATE))
    text = _rendered(tokenizer, messages, variables, today)
    if lost := _lost(messages, text):  # templates of multimodal models may accept only messages in parts
        parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in messages]
        text = _rendered(tokenizer, parts, variables, today)
        if _lost(messages, text) or "{'type': 'text'" in text:
            raise UserError(f"the tokenizer's chat template omits the prompt's {lost[:60]!r}")
    return text


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], variables: dict[str, Any], today: datetime
) -> str:
    turns = cast(
        "list[dict[str, str]]", messages
    )  # content may also be a list of parts, which the annotated type excludes
    try:
        with _date(today), _same_choices(), _limited_memory(MAX_BYTES), _limited_time(TIMEOUT_S):
            text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **variables))
    except _OutOfTime:
        raise UserError(f"the tokenizer's chat template does not finish within {TIMEOUT_S:g} s") from None
    except MemoryError:
        raise UserError(f"the tokenizer's chat template takes more than {MAX_BYTES / 2**30:g} GiB") from None
    except Exception as error:  # templates are programs and may fail in any way
        raise UserError(f"the tokenizer's chat template fails: {reason_of(error)[:200]}") from error
    if len(text) > MAX_CHARS:
        raise UserError(
            f"the tokenizer's chat template produces {len(text)} characters; at most {MAX_CHARS} are allowed"
        )
    return text


def _lost(messages: Sequence[Mapping[str, str]], text: str) -> str:
    """Return a line of the messages that is missing from the rendered text; empty if none is."""
    lines = (line.strip() for turn in messages for line in turn["content"].splitlines())
    return next((line for line in lines if line not in text), "")


def day_of(value: Any) -> datetime:
    """Parse the option ``date``.

    Raises:
        UserError: If it is not an ISO date.

    Example:
        >>> day_of("2024-07-26").year
        2024
    """
    try:
        day = value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError as error:
        raise UserError(f"chat_template_options.date '{value}' is not allowed; give a date such as {DATE}") from error
    return datetime(day.year, day.month, day.day)


@contextmanager
def _date(today: datetime) -> Iterator[None]:
    class Fixed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Fixed":
            return cls(today.year, today.month, today.day)

    with mock.patch.object(chat_template_utils, "datetime", Fixed):
        yield


@contextmanager
def _same_choices() -> Iterator[None]:
    """Make Jinja's random filter and lipsum choose the same at each rendering."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


class _OutOfTime(Exception):
    """A template exceeded its time limit."""


@contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """Raise when the Python code inside takes too long; needs no thread or signal."""
    end = time.monotonic() + seconds

    def watch(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if time.monotonic() > end:
            raise _OutOfTime
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _limited_memory(size: int) -> Iterator[None]:
    """Limit how many bytes this process may grow by, where the system can enforce it (Linux)."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        yield
        return
    import resource  # which Windows does not have

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
