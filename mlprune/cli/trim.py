"""``mlprune trim MODEL --languages fr,sw --corpus ...``: a model with only the tokens that some languages need."""

import argparse
from pathlib import Path

from mlprune.errors import UserError
from mlprune.invocation import program

CORPUS = "bundled, bundled:NAME, flores:FOLDER, or a file with {lang} in its path; may be given several times"


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"{program()} trim",
        description="Write a model with only the tokens that some languages' texts need, and say what that costs.",
    )
    parser.add_argument("model", help="hub id, local folder, or demo")
    parser.add_argument("--languages", required=True, help="codes of the languages, such as fr,sw")
    parser.add_argument("--corpus", action="append", help=f"{CORPUS} (default: bundled)")
    parser.add_argument("--prompts", action="append", default=[], metavar="FILE", help="text of prompts and templates")
    parser.add_argument("--output", type=Path, help="new folder (default: MODEL-LANGUAGES, here)")
    parser.add_argument(
        "--others", help="languages whose cost is reported too; '' for none (default: the bundled ones)"
    )
    parser.add_argument("--limit", type=int, default=48, help="texts and pairs a language to evaluate (default: 48)")
    parser.add_argument("--no-quality", action="store_true", help="evaluate nothing, so that no model is loaded")
    parser.add_argument("--revision", help="commit, tag or branch of a hub repository")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code from the model's repository")
    arguments = parser.parse_args(args)
    languages = _codes("--languages", arguments.languages)
    if not languages:
        raise UserError("--languages: give at least one code, such as fr,sw")
    if arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit} is not allowed; give at least 1")
    output = arguments.output or Path(f"{Path(arguments.model).name}-{'-'.join(languages)}")
    if output.exists():
        raise UserError(f"'{output}' exists already; remove it or give another --output")
    _trim(arguments, languages, output)
    return 0


def _codes(key: str, text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",") if code.strip()]
    if twice := next((code for code in codes if codes.count(code) > 1), None):
        raise UserError(f"{key}: '{twice}' is given twice")
    return codes


def _trim(arguments: argparse.Namespace, languages: list[str], output: Path) -> None:
    """Trim and report; only now are the libraries imported, which take seconds."""
    import transformers

    from mlprune.data.corpora import Bundled
    from mlprune.models.loading import ModelSource
    from mlprune.present import to_markdown
    from mlprune.smaller import trim_vocabulary
    from mlprune.smaller.report import REPORT, measure_costs, tables, write_report
    from mlprune.smaller.texts import PROMPTS, file_text, prompt_texts, texts_for

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    corpora = arguments.corpus or ["bundled"]
    texts = texts_for(corpora, languages)
    prompts = [*prompt_texts(texts), *map(file_text, arguments.prompts)]
    others = Bundled("parallel").languages() if arguments.others is None else _codes("--others", arguments.others)
    elsewhere = ["bundled:parallel"] if arguments.others is None else corpora
    measured = texts | texts_for(elsewhere, [lang for lang in others if lang not in texts])
    source = ModelSource(arguments.model, revision=arguments.revision, trust_remote_code=arguments.trust_remote_code)
    facts = {"languages": languages, "corpora": corpora, "prompts": arguments.prompts}
    trimmed = trim_vocabulary(source, output, {**texts, PROMPTS: prompts}, facts)
    print(f"{output}: {len(trimmed.kept):,} of {trimmed.num_tokens:,} tokens\n")
    for table in tables(trimmed, None):
        print(to_markdown(table), end="\n\n", flush=True)
    costs = measure_costs(source, trimmed, measured, arguments.limit, not arguments.no_quality)
    for table in costs.tables(languages):
        print(to_markdown(table), end="\n\n")
    write_report(trimmed, costs)
    print(f"Written: {output / REPORT}")
