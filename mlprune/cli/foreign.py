"""Keys that users of transformers would look for, and what they are called here."""

TOO_LARGE = (
    "split a model that is too large for a device over several with trainer.strategy ModelParallelStrategy, or prune "
    "it block by block with --pruning.streaming true; configs/README.md says how"
)
FOREIGN = {
    **dict.fromkeys(("device_map", "max_memory", "tp_plan", "tp_size", "device_mesh", "distributed_config"), TOO_LARGE),
    **dict.fromkeys(("offload_folder", "offload_state_dict", "offload_buffers", "low_cpu_mem_usage"), TOO_LARGE),
    "torch_dtype": "give model.dtype",
    "device": "give trainer.accelerator",
}


def named_here(key: str) -> str:
    """Return what to do in place of a key of transformers, to be appended to an error; empty if it is none.

    Example:
        >>> named_here("model.torch_dtype")
        '; give model.dtype'
    """
    section, *names = key.split(".")
    name = names[0] if names and section in ("model", "trainer") else section  # which may be a mapping itself
    return f"; {FOREIGN[name]}" if name in FOREIGN else ""
