"""What a configuration may name, read from the source files: no class is imported, so that listing needs no torch."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Argument:
    """One argument of a class.

    Args:
        name: Its name.
        type: Its type as annotated; empty if it has none.
        default: Its default as written; None if it must be given.
        text: What its class says of it.
    """

    name: str
    type: str
    default: str | None
    text: str


@dataclass(frozen=True)
class ListedClass:
    """A class that a configuration may name.

    Args:
        name: Its name.
        path: The shortest import path, for ``class_path``.
        doc: Its docstring.
        bases: Names of its bases.
        arguments: Its constructor's own arguments.
        passes_on: Whether the constructor has ``**kwargs``, and so takes its base's arguments too.
        abstract: Its methods that a subclass has to write.
        methods: Names of its methods.
    """

    name: str
    path: str
    doc: str
    bases: tuple[str, ...]
    arguments: tuple[Argument, ...] | None
    passes_on: bool
    abstract: frozenset[str]
    methods: frozenset[str] = field(repr=False)

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        paragraph = " ".join(self.doc.partition("\n\n")[0].split())
        return re.split(r"(?<=[.])\s", paragraph.replace("``", ""))[0].rstrip(".:")


class Catalog:
    """The classes of some packages, found in their source files.

    Args:
        root: Folder of the package ``mlprune``; this one's if omitted.

    Example:
        >>> [entry.name for entry in Catalog().concrete("Pattern")]
        ['NofM', 'Unstructured']
    """

    def __init__(self, root: Path = PACKAGE) -> None:
        self.classes = {entry.name: entry for path in sorted(root.rglob("*.py")) for entry in _classes(path, root)}

    def lineage(self, name: str) -> list[ListedClass]:
        """Return a class and what it derives from, as far as that is ours."""
        if name not in self.classes:
            return []
        entry = self.classes[name]
        return [entry, *(above for base in entry.bases for above in self.lineage(base))]

    def concrete(self, base: str) -> list[ListedClass]:
        """Return the public classes that derive from a base and can be built, by name."""
        return sorted(
            (
                entry
                for entry in self.classes.values()
                if not entry.name.startswith("_")
                and base in {name for above in self.lineage(entry.name) for name in above.bases}
                and not self._missing(entry.name)
            ),
            key=lambda entry: entry.name.lower(),
        )

    def arguments(self, name: str) -> list[Argument]:
        """Return what a class takes, its base's arguments included where it passes them on."""
        found: dict[str, Argument] = {}
        texts: dict[str, str] = {}
        for entry in self.lineage(name):
            for key, text in _argument_texts(entry.doc).items():
                texts.setdefault(key, text)
        for entry in self.lineage(name):
            for argument in entry.arguments or ():
                text = texts.get(argument.name, "")
                found.setdefault(argument.name, Argument(argument.name, argument.type, argument.default, text))
            if entry.arguments is not None and not entry.passes_on:
                break
        return sorted(found.values(), key=lambda argument: argument.default is not None)

    def _missing(self, name: str) -> set[str]:
        """Names of the methods that a class still lacks."""
        lineage = self.lineage(name)
        written = set().union(*(entry.methods - entry.abstract for entry in lineage))
        return set().union(*(entry.abstract for entry in lineage)) - written


def _classes(path: Path, root: Path) -> Iterator[ListedClass]:
    module = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    above = path.parent / "__init__.py"
    exported = above.read_text(encoding="utf-8") if above.is_file() else ""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            home = module.rpartition(".")[0] if f'"{node.name}"' in exported else module
            yield _read_class(node, f"{home}.{node.name}")


def _read_class(node: ast.ClassDef, path: str) -> ListedClass:
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    constructor = methods.get("__init__")
    if constructor is not None:
        arguments, passes_on = tuple(_parameters(constructor.args)), constructor.args.kwarg is not None
    elif any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        arguments, passes_on = tuple(_fields(node)), True
    else:
        arguments, passes_on = None, True
    return ListedClass(
        node.name,
        path,
        ast.get_docstring(node) or "",
        tuple(ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases),
        arguments,
        passes_on,
        frozenset(name for name, part in methods.items() if "abstractmethod" in map(ast.unparse, part.decorator_list)),
        frozenset(methods),
    )


def _parameters(arguments: ast.arguments) -> Iterator[Argument]:
    positional = [*arguments.posonlyargs, *arguments.args][1:]  # without self
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults[-len(positional) :])
    for parameter, default in [*zip(positional, defaults), *zip(arguments.kwonlyargs, arguments.kw_defaults)]:
        yield _argument(parameter.arg, parameter.annotation, default)


def _fields(node: ast.ClassDef) -> Iterator[Argument]:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield _argument(part.target.id, part.annotation, part.value)


def _argument(name: str, annotation: ast.expr | None, default: ast.expr | None) -> Argument:
    written = None if default is None else ast.unparse(default)
    return Argument(name, "" if annotation is None else ast.unparse(annotation), written, "")


def _argument_texts(doc: str) -> dict[str, str]:
    """Return what a docstring's section ``Args`` says of each argument, on one line.

    Example:
        >>> _argument_texts("Does it.\\n\\nArgs:\\n    shots: Solved\\n        examples.\\n    seed: A seed.")
        {'shots': 'Solved examples.', 'seed': 'A seed.'}
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", doc, re.MULTILINE)
    items = re.split(r"^    (?=\w+:)", section[1] if section else "", flags=re.MULTILINE)
    pairs = (item.partition(":") for item in items if item.strip())
    return {name.strip(): " ".join(text.split()) for name, _, text in pairs}
