"""``mlprune compress RUN``: sparse weights as they are, a bit for each and the values that are not zero."""

from pathlib import Path

from mlprune.arguments import Arguments
from mlprune.errors import UserError

PRUNED, COMPRESSED, RESTORED = "pruned", "compressed", "restored"


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Arguments(
        "compress",
        "Write a pruned model as an archive: a bit for each weight, and the values that are not zero. "
        "mlprune.load_compressed loads it; nothing else does, so --restore makes an ordinary checkpoint of it again.",
    )
    parser.add_argument(
        "run", type=Path, help="run folder with pruned/, or a model's folder; with --restore, an archive"
    )
    parser.add_argument(
        "--output", type=Path, help=f"new folder (default: {COMPRESSED} or {RESTORED}, beside the model)"
    )
    parser.add_argument("--restore", action="store_true", help="write an archive as the checkpoint that it was made of")
    arguments = parser.parse_args(args)
    run: Path = arguments.run
    folder = run / PRUNED if (run / PRUNED).is_dir() else run
    if not folder.is_dir():
        raise UserError(f"'{run}' is not a folder; give a run's folder, or a model's")
    if arguments.restore:
        from mlprune.smaller.archive import restore

        output = arguments.output or folder.parent / RESTORED
        restore(folder, output)
        print(f"Written: {output}")
        return 0
    from mlprune.models.folder import check_folder
    from mlprune.smaller.archive import compress

    check_folder(folder)
    output = arguments.output or folder.parent / COMPRESSED
    sizes = compress(folder, output)
    before, after = sizes.num_bytes / 1e6, sizes.num_compressed / 1e6
    print(f"{before:,.1f} MB of weights are {after:,.1f} MB now, {after / max(before, 1e-9):.1%}; ", end="")
    if sizes.num_weights:
        zeros = 1 - sizes.num_nonzero / sizes.num_weights
        print(f"{zeros:.1%} of the {sizes.num_weights:,} weights that were compressed are zero")
    else:
        print("no matrix has enough zeros to be smaller this way")
    print(f"Written: {output}; load it with mlprune.load_compressed")
    return 0
