"""Options of a tokenizer: transformers keeps whatever it is given, so one that does nothing must be found here."""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError, did_you_mean

# what chat templates read
CHAT = ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort", "date_string", "date", "system_message",
        "tools", "documents", "builtin_tools", "add_generation_prompt", "continue_final_message")  # fmt: skip
# read while the files are found, and on no tokenizer afterwards
LOADING = ("subfolder", "cache_dir", "force_download", "local_files_only", "proxies", "gguf_file", "tokenizer_type",
           "code_revision", "fix_mistral_regex", "mistral_format", "vocab_file", "merges_file",
           "tokenizer_file", "extra_special_tokens", "additional_special_tokens", "max_len")  # fmt: skip
# settings of their own
ELSEWHERE = {
    "token": "secrets do not belong into configs; run `hf auth login` once",
    "use_auth_token": "secrets do not belong into configs; run `hf auth login` once",
    "trust_remote_code": "set model.trust_remote_code",
    "revision": "set model.revision",
    "pretrained_model_name_or_path": "set model.name",
}


def check_names(options: Iterable[str]) -> None:
    """Refuse options that belong to a chat template or are settings of their own, before anything is loaded.

    Raises:
        UserError: If there is one.

    Example:
        >>> check_names(["padding_side"])
        >>> check_names(["enable_thinking"])
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: model.tokenizer_options.enable_thinking is for a chat template; give ...
    """
    for name in options:
        if name in CHAT:
            raise _for_chat(name)
        if name in ELSEWHERE:
            raise UserError(f"model.tokenizer_options.{name}: {ELSEWHERE[name]}")


def _for_chat(name: str) -> UserError:
    return UserError(
        f"model.tokenizer_options.{name} is for a chat template; give it to the task that asks through one, "
        f"as chat_template_options: {{{name}: ...}}"
    )


def check_taken(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> None:
    """Refuse options that a tokenizer has not taken: neither an argument of its class nor an attribute of it.

    Args:
        tokenizer: The tokenizer, loaded with the options.
        options: The options.

    Raises:
        UserError: If one does nothing.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> check_taken(ByT5Tokenizer(extra_ids=5), {"extra_ids": 5})
        >>> check_taken(ByT5Tokenizer(extra_id=5), {"extra_id": 5})
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: model.tokenizer_options.extra_id does nothing to ByT5Tokenizer; did you ...
    """
    makers = [cls.__init__ for cls in type(tokenizer).__mro__]  # type: ignore[misc]  # looked at, never called
    known = {name for maker in makers for name in inspect.signature(maker).parameters}
    known -= {"self", "args", "kwargs"}
    for name, value in options.items():
        if name in known or name in LOADING or _holds(tokenizer, name, value):
            continue
        if re.search(rf"\b{re.escape(name)}\b", str(tokenizer.chat_template)):
            raise _for_chat(name)
        raise UserError(
            f"model.tokenizer_options.{name} does nothing to {type(tokenizer).__name__}{did_you_mean(name, known)}"
        )


def _holds(tokenizer: PreTrainedTokenizerBase, name: str, value: Any) -> bool:
    return hasattr(tokenizer, name) and str(getattr(tokenizer, name)) == str(value)
