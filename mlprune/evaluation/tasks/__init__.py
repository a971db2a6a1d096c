"""Evaluation tasks, each a class chosen by ``class_path`` in YAML."""

from mlprune.evaluation.tasks.base import Task
from mlprune.evaluation.tasks.candidates import CandidateTask, ClozeTask
from mlprune.evaluation.tasks.perplexity import PerplexityTask
from mlprune.evaluation.tasks.translation import TranslationTask

__all__ = ["CandidateTask", "ClozeTask", "PerplexityTask", "Task", "TranslationTask"]
