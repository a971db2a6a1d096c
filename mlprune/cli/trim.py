"""``mlprune trim MODEL --languages fr,sw --corpus ...``: a model with only the tokens that some languages need."""

from argparse import Namespace
from pathlib import Path

from mlprune.arguments import Arguments
from mlprune.errors import UserError

CORPUS = "bundled, bundled:NAME, flores:FOLDER, or a file with {lang} in its path; may be given several times"


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Arguments(
        "trim", "Write a model with only the tokens that some languages' texts need, and say what that costs."
    )
    parser.add_argument("model", help="hub id, local folder, or demo")
    parser.add_argument("--languages", required=True, help="codes of the languages, such as fr,sw")
    parser.add_argument("--corpus", action="append", help=f"{CORPUS} (default: bundled)")
    parser.add_argument("--prompts", action="append", default=[], metavar="FILE", help="text of prompts and templates")
    parser.add_argument("--output", type=Path, help="new folder (default: MODEL-LANGUAGES, here)")
    parser.add_argument(
        "--others", help="languages whose cost is reported too; '' for none (default: the bundled ones)"
    )
    parser.add_argument(
        "--limit", type=int, default=24, help="texts and pairs a language to evaluate; 0 loads no model (default: 24)"
    )
    parser.add_argument("--revision", help="commit, tag or branch of a hub repository")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code from the model's repository")
    arguments = parser.parse_args(args)
    languages = _codes("--languages", arguments.languages)
    if not languages:
        raise UserError("--languages: give at least one code, such as fr,sw")
    if arguments.limit < 0:
        raise UserError(f"--limit {arguments.limit} is not allowed; give 0 or more")
    given = Path(arguments.model).expanduser()
    name = (given.resolve() if given.is_dir() else given).name  # of '.', too
    output = arguments.output or Path(f"{name}-{'-'.join(languages)}")
    if output.exists():
        raise UserError(f"'{output}' exists already; remove it or give another --output")
    _trim(arguments, languages, output)
    return 0


def _codes(key: str, text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",") if code.strip()]
    if twice := next((code for code in codes if codes.count(code) > 1), None):
        raise UserError(f"{key}: '{twice}' is given twice")
    return codes


def _trim(arguments: Namespace, languages: list[str], output: Path) -> None:
    """Trim and report; only now are the libraries imported, which take seconds."""
    import transformers

    from mlprune.models.loading import ModelSource
    from mlprune.present import to_markdown
    from mlprune.smaller import TrimVocabulary
    from mlprune.smaller.report import REPORT

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    others = None if arguments.others is None else _codes("--others", arguments.others)
    step = TrimVocabulary(languages, arguments.corpus, arguments.prompts, others, arguments.limit)
    step.inputs()  # read before the model
    source = ModelSource(arguments.model, revision=arguments.revision, trust_remote_code=arguments.trust_remote_code)
    for table in step.reduce(source, output):
        print(to_markdown(table), end="\n\n")
    print(f"Written: {output / REPORT}")
