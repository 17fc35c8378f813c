"""The trainings: of translator, student, embedder, matcher, suppressor and film model."""

from fcr_train.tasks.distillation import DistillTask
from fcr_train.tasks.embedding import EmbedderTask, embed, rank_mates
from fcr_train.tasks.filming import FilmTask
from fcr_train.tasks.matching import MatcherTask, embed_skulls
from fcr_train.tasks.plan import Parts, Plan
from fcr_train.tasks.suppression import SuppressorTask
from fcr_train.tasks.translation import TranslatorTask, generate

__all__ = [
    "DistillTask",
    "EmbedderTask",
    "FilmTask",
    "MatcherTask",
    "Parts",
    "Plan",
    "SuppressorTask",
    "TranslatorTask",
    "embed",
    "embed_skulls",
    "generate",
    "rank_mates",
]
