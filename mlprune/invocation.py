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


def script() -> str:
    """Return what a program that uses this package was started as, such as ``python my_script.py --seed 1``.

    Example:
        >>> import sys
        >>> sys.argv = ["my_script.py", "--name", "my model"]
        >>> script()
        "python my_script.py --name 'my model'"
    """
    return shlex.join(["python", *sys.argv]) if sys.argv and sys.argv[0] else "python"
