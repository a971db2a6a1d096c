"""Models: loading, the packaged demo models, blocks and prunable layers, special tokens, saving."""
