"""Experiments: what is done to a model, in which order, and what is compared at the end."""

from mlprune.experiments.engine import TRAINER_DEFAULTS, Engine

__all__ = ["TRAINER_DEFAULTS", "Engine"]
