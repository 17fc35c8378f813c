"""The whole study: every translator and embedder trained, measured and reported, resumable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fcr_edge.errors import ConfigError
from fcr_train.checkpoint import digest, load_checkpoint, save_checkpoint
from fcr_train.config import EmbedderConfig, MatcherConfig, TranslatorConfig, load_preset
from fcr_train.embedders import BACKBONES, describe_untrained, load_embedder
from fcr_train.evaluate.benches import Systems, read_trained
from fcr_train.evaluate.examine import Examiner, Ground
from fcr_train.evaluate.illustrate import illustrate
from fcr_train.evaluate.page import write_report
from fcr_train.evaluate.record import Evaluation
from fcr_train.evaluate.study import BEST_FILE, UNTRAINED, Best, Study
from fcr_train.files import write_whole
from fcr_train.matcher import load_matcher
from fcr_train.tasks import EmbedderTask, MatcherTask, Plan, TranslatorTask
from fcr_train.trainer import CHECKPOINT_FILE, count_epochs, train
from fcr_train.translators import TRANSLATORS, load_generator
from fcr_train.weights import find_owner, read_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch

    from fcr_train.config import AnyConfig
    from fcr_train.dataset import Dataset
    from fcr_train.evaluate.illustrate import Illustrations
    from fcr_train.evaluate.images import Networks
    from fcr_train.splits import Fold
    from fcr_train.trainer import Progress, Task

    Count = Callable[[int, int], None]

VALIDATION_FILE = "validation.json"
"""Mean reciprocal ranks on people set aside from training, by which models are chosen."""
REFERENCE = "densenet121"
"""The embedder that translators are compared with: the seed paper's best."""
MATCHER = "two_tower"


@dataclass(frozen=True)
class Course:
    """What a study trains and measures, on whom, and where it writes."""

    dataset: Dataset
    preset: str
    folds: Sequence[Fold]
    """By person first; the best run is chosen there."""
    out: Path
    device: torch.device
    command: str
    seed: int = 1
    translators: Sequence[str] = tuple(TRANSLATORS)
    embedders: Sequence[str] = tuple(BACKBONES)
    networks: Networks | None = None
    """What measures pictures by weights that the user gave."""
    distractors: Dataset | None = None
    """People to enrol beside those tested; see `take_distractors`."""
    backbone_weights: Mapping[str, Path] = field(default_factory=dict)
    """ImageNet weights by backbone, for the embedders as the seed paper uses them."""

    def __post_init__(self) -> None:
        for asked, known in ((self.translators, TRANSLATORS), (self.embedders, BACKBONES)):
            unknown = [name for name in asked if name not in known]
            if unknown or not asked:
                raise ConfigError(
                    f"unknown model {', '.join(unknown) or 'list, empty'!r}: choose from"
                    f" {', '.join(known)}"
                )


class Comparison:
    """A study under way; whatever is finished in its folder is not done again."""

    def __init__(
        self,
        course: Course,
        say: Callable[[str], None],
        watching: Callable[[], AbstractContextManager[Callable[[Progress], None]]],
        counting: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
    ) -> None:
        self.course, self.say = course, say
        self.watching, self.counting = watching, counting
        self.grounds: dict[str, Ground] = {}

    def run(self) -> Path:
        """Train, measure and report; return the page. Raises DataError and ConfigError."""
        evaluations = [done for fold in self.course.folds for done in self._run_fold(fold)]
        person = next(fold for fold in self.course.folds if not fold.is_by_pair)
        best = self._choose(person)
        write_whole(self.course.out / BEST_FILE, json.dumps(asdict(best), indent=1) + "\n")
        study = Study(
            evaluations=evaluations,
            best=best,
            command=self.course.command,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **self._illustrate(person, best),
        )
        return write_report(study, self.course.out / "report")

    def _run_fold(self, fold: Fold) -> list[Evaluation]:
        """Compare translators by the reference embedder, then embedders by the best translator."""
        course = self.course
        reference = REFERENCE if REFERENCE in course.embedders else course.embedders[0]
        for translator in course.translators:
            self._train_translator(fold, translator)
        self._train_matcher(fold)
        evaluations = [self._measure(fold, name, reference) for name in course.translators]
        best = max(course.translators, key=lambda name: self._validate(fold, name, reference))
        self.say(f"{_name(fold)}: the best translator on the people set aside is {best}")
        others = [name for name in course.embedders if name != reference]
        evaluations += [self._measure(fold, best, name) for name in others]
        evaluations += [
            self._measure(fold, best, f"{name}{UNTRAINED}") for name in course.backbone_weights
        ]
        return evaluations

    def _train_translator(self, fold: Fold, model: str) -> Path:
        config = load_preset(model, self.course.preset)
        assert isinstance(config, TranslatorConfig)
        plan = self._plan(fold, model, config)
        return self._train(fold, model, plan, lambda count: TranslatorTask(plan, count))

    def _train_matcher(self, fold: Fold) -> Path:
        config = load_preset(MATCHER, self.course.preset)
        assert isinstance(config, MatcherConfig)
        plan = self._plan(fold, MATCHER, config)
        return self._train(fold, MATCHER, plan, lambda count: MatcherTask(plan, count))

    def _train_embedder(self, fold: Fold, translator: str, name: str) -> Path:
        """Train an embedder on portraits and on a translator's faces, or describe one as it is."""
        backbone = name.removesuffix(UNTRAINED)
        config = load_preset(backbone, self.course.preset)
        assert isinstance(config, EmbedderConfig)
        if name.endswith(UNTRAINED):
            path = self._folder(fold, name) / CHECKPOINT_FILE
            weights = read_weights(self.course.backbone_weights[backbone], backbone)
            made = describe_untrained(
                backbone, self.course.preset, config, weights, self.course.seed
            )
            if not path.exists():
                save_checkpoint(path, made)
            return path
        source = self._train_translator(fold, translator)
        plan = replace(self._plan(fold, backbone, config), sources={"translator": digest(source)})
        drawn = load_generator(source)
        name = f"{backbone}-{translator}"
        return self._train(
            fold, name, plan, lambda count: EmbedderTask(plan, drawn, progress=count)
        )

    def _train(
        self, fold: Fold, name: str, plan: Plan[Any], start: Callable[[Count], Task]
    ) -> Path:
        """Train to the end, going on where an earlier call was interrupted."""
        folder = self._folder(fold, name)
        path, done = folder / CHECKPOINT_FILE, count_epochs(folder)
        if done == plan.config.schedule.total:
            self._refuse_other(path, plan)
            return path
        self.say(f"{_name(fold)}: training {name}")
        with self.counting("pictures") as count:
            task = start(count)
        with self.watching() as watch:
            return train(task, folder, plan.seed, plan.identity, done > 0, watch)

    def _refuse_other(self, path: Path, plan: Plan[Any]) -> None:
        """Raise ConfigError if what lies there was trained on or as something else."""
        made = load_checkpoint(path)
        theirs = {
            "config": made.config,
            "dataset": made.data["sha256"],
            "seed": made.data["seed"],
            "sources": made.data.get("sources", {}),
        }
        for key, value in theirs.items():
            if plan.identity[key] != value:
                raise ConfigError(
                    f"{path} was trained with another {key}: choose another --out, or remove"
                    f" {path.parent}"
                )

    def _measure(self, fold: Fold, translator: str, embedder: str) -> Evaluation:
        """Evaluate on the people held out, unless that is done."""
        path = self.course.out / "evaluations" / f"{_name(fold)}-{translator}-{embedder}.json"
        systems = self._systems(fold, translator, embedder)
        if path.exists():
            done = Evaluation.from_json(path.read_text(encoding="utf-8"))
            if _same(done, systems):
                return done
        self.say(f"{_name(fold)}: evaluating {translator} with {embedder}")
        with self.counting("searches") as count:
            evaluation = self._examiner(fold, systems).examine(count)
        write_whole(path, evaluation.to_json())
        return evaluation

    def _validate(self, fold: Fold, translator: str, embedder: str) -> float:
        """Return the mean reciprocal rank on people set aside from training, once computed."""
        path = self.course.out / VALIDATION_FILE
        known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        systems = self._systems(fold, translator, embedder)
        key = f"{_name(fold)} {systems.translator.sha256} {systems.embedder.sha256}"
        if key not in known:
            known[key] = self._examiner(fold, systems).validate()
            write_whole(path, json.dumps(known, indent=1) + "\n")
        return known[key]

    def _choose(self, fold: Fold) -> Best:
        """Choose the run with the best mean reciprocal rank on people set aside from training."""
        runs = [
            (translator, embedder)
            for translator in self.course.translators
            for embedder in self.course.embedders
            if (self._folder(fold, f"{embedder}-{translator}") / CHECKPOINT_FILE).exists()
        ]
        figures = {run: self._validate(fold, *run) for run in runs}
        translator, embedder = max(runs, key=figures.__getitem__)
        checkpoints = {
            "translator": self._folder(fold, translator),
            "embedder": self._folder(fold, f"{embedder}-{translator}"),
        }
        return Best(
            translator=translator,
            embedder=embedder,
            checkpoints={
                part: (folder.relative_to(self.course.out) / CHECKPOINT_FILE).as_posix()
                for part, folder in checkpoints.items()
            },
            why=(
                "the highest mean reciprocal rank"
                f" ({figures[translator, embedder]:.3f} of {len(runs)} runs) on people set aside"
                " from training, who are not the people tested"
            ),
        )

    def _systems(self, fold: Fold, translator: str, embedder: str) -> Systems:
        """Train what is missing, and load."""
        return Systems(
            read_trained(self._train_translator(fold, translator), load_generator),
            read_trained(self._train_embedder(fold, translator, embedder), load_embedder),
            read_trained(self._train_matcher(fold), load_matcher),
            self.course.device,
        )

    def _examiner(self, fold: Fold, systems: Systems) -> Examiner:
        if fold.record not in self.grounds:
            config = load_preset(self.course.embedders[0], self.course.preset)
            recipe = systems.translator.checkpoint.config["soft_tissue"]
            plan = self._plan(fold, self.course.embedders[0], config)
            self.grounds[fold.record] = Ground(plan, recipe, self.course.distractors)
        return Examiner(self.grounds[fold.record], systems, self.course.networks)

    def _plan(self, fold: Fold, model: str, config: AnyConfig) -> Plan[Any]:
        course = self.course
        return Plan(model, course.preset, config, course.dataset, course.seed, course.device, fold)

    def _folder(self, fold: Fold, name: str) -> Path:
        return self.course.out / "runs" / _name(fold) / name

    def _illustrate(self, fold: Fold, best: Best) -> Illustrations:
        self.say("drawing")
        systems = self._systems(fold, best.translator, best.embedder)
        others = {
            name: read_trained(self._train_translator(fold, name), load_generator)
            for name in self.course.translators
        }
        examiner = self._examiner(fold, systems)
        return illustrate(examiner, best.translator, others)


def find_backbones(files: Sequence[Path]) -> dict[str, Path]:
    """Tell whose published weights each file holds, by hash. Raises DataError for others."""
    return {find_owner(path): path for path in files}


def _same(done: Evaluation, systems: Systems) -> bool:
    """Tell whether an evaluation is of these very networks."""
    networks = (systems.translator, systems.embedder, systems.matcher)
    records = [trained.record if trained else None for trained in networks]
    return [done.translator, done.embedder, done.matcher] == records


def _name(fold: Fold) -> str:
    """Name a fold for files and messages."""
    return f"{fold.split.by}-{fold.number}"
