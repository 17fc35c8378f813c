"""The trainings: a translator on films and faces, an embedder on faces of people."""

from fcr_train.tasks.embedding import EmbedderTask, embed, rank_mates
from fcr_train.tasks.plan import Parts, Plan
from fcr_train.tasks.translation import TranslatorTask, generate

__all__ = [
    "EmbedderTask",
    "Parts",
    "Plan",
    "TranslatorTask",
    "embed",
    "generate",
    "rank_mates",
]
