"""Text of others, such as names, labels and messages, made safe for where it is shown."""

import unicodedata
from collections.abc import Sequence

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and format characters, halves of characters, separators of lines
JOINERS = "\u200c\u200d"  # which stand within words of Persian and Hindi
LONGEST = 40  # characters of a name in a picture


def visible(text: str) -> str:
    r"""Return text in which control characters, such as a terminal's escapes or changes of direction, are written out.

    Example:
        >>> print(visible("a\x1b[31m\n"))
        a\x1b[31m\n
    """
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in HIDDEN and c not in JOINERS else c for c in text)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    Example:
        >>> listed(["French", "Hindi", "Swahili"]), listed(["French"])
        ('French, Hindi and Swahili', 'French')
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def plot_text(text: str, longest: int = LONGEST) -> str:
    r"""Return a name as matplotlib draws it: not as a formula, and not longer than a picture has room for.

    Args:
        text: The name.
        longest: How many characters there is room for.

    Example:
        >>> plot_text("$x_$"), len(plot_text("a" * 300))
        ('\\$x_\\$', 40)
    """
    shown = visible(text)
    shown = shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
    return shown.replace("$", r"\$")
