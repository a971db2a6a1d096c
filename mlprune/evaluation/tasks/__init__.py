"""Evaluation tasks, each a class chosen by ``class_path`` in YAML."""

from mlprune.evaluation.tasks.arithmetic import Mgsm
from mlprune.evaluation.tasks.base import Task
from mlprune.evaluation.tasks.candidates import CandidateTask
from mlprune.evaluation.tasks.cloze import Bmlama, ClozeTask
from mlprune.evaluation.tasks.continuation import Continuation
from mlprune.evaluation.tasks.lm_eval import LmEval
from mlprune.evaluation.tasks.pairs import MinimalPairs, MultiBlimp
from mlprune.evaluation.tasks.parallel_sets import Belebele, GlobalMmluLite, Include, Sib200
from mlprune.evaluation.tasks.perplexity import PerplexityTask
from mlprune.evaluation.tasks.presets import Marc, PawsX, Xcopa, Xnli, XStoryCloze, XWinograd
from mlprune.evaluation.tasks.segments import C4, SegmentPerplexity, WikiText2
from mlprune.evaluation.tasks.spans import TydiQa, Xquad
from mlprune.evaluation.tasks.translation import TranslationTask

__all__ = [
    "C4",
    "Belebele",
    "Bmlama",
    "CandidateTask",
    "ClozeTask",
    "Continuation",
    "GlobalMmluLite",
    "Include",
    "LmEval",
    "Marc",
    "Mgsm",
    "MinimalPairs",
    "MultiBlimp",
    "PawsX",
    "PerplexityTask",
    "SegmentPerplexity",
    "Sib200",
    "Task",
    "TranslationTask",
    "TydiQa",
    "WikiText2",
    "XStoryCloze",
    "XWinograd",
    "Xcopa",
    "Xnli",
    "Xquad",
]
