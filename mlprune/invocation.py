"""How the program was started, so that the commands it prints can be pasted."""

import shlex
import sys
from pathlib import Path


def program() -> str:
    """Return how the user started the program.

    Example:
        >>> import sys
        >>> sys.argv[0] = "/home/me/my prunings/main.py"
        >>> program()
        "python '/home/me/my prunings/main.py'"
    """
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return "python -m mlprune"
    return f"python {shlex.quote(str(script))}" if script.name == "main.py" else "mlprune"
