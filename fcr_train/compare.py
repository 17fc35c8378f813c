"""The whole study: every translator and embedder trained, measured and reported, resumable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fcr_edge.errors import ConfigError
from fcr_train.checkpoint import digest, load_checkpoint, save_checkpoint
from fcr_train.config import EmbedderConfig, MatcherConfig, TranslatorConfig, load_preset
from fcr_train.embedders import BACKBONES, describe_untrained, load_embedder
from fcr_train.evaluate.benches import Systems, describe_trained, read_trained
from fcr_train.evaluate.examine import examine
from fcr_train.evaluate.findings import Examiner, Ground
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
    folds: Sequence[Sequence[Fold]]
    """Folds whose people are put together; by person first, where the best run is chosen."""
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
    trainings: int = 1
    """How often the best run is trained, each time with the next seed, to show their spread."""

    def __post_init__(self) -> None:
        for asked, known in ((self.translators, TRANSLATORS), (self.embedders, BACKBONES)):
            unknown = [name for name in asked if name not in known]
            if unknown or not asked:
                raise ConfigError(
                    f"unknown model {', '.join(unknown) or 'list, empty'!r}: choose from"
                    f" {', '.join(known)}"
                )
        if self.trainings < 1:
            raise ConfigError(f"trainings is {self.trainings}: give 1 or more")


@dataclass(frozen=True)
class Round:
    """One training of everything: whom it leaves out, and by which seed."""

    fold: Fold
    seed: int
    name: str
    """For files and messages."""


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
        course = self.course
        first, *others = [self._rounds(folds, course.seed) for folds in course.folds]
        evaluations = self._compare(first)
        best = self._choose(first)
        write_whole(course.out / BEST_FILE, json.dumps(asdict(best), indent=1) + "\n")
        study = Study(
            evaluations=[
                *evaluations,
                *(done for rounds in others for done in self._compare(rounds)),
            ],
            best=best,
            command=course.command,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            again=[
                self._measure(self._rounds(course.folds[0], seed), best.translator, best.embedder)
                for seed in range(course.seed + 1, course.seed + course.trainings)
            ],
            **self._illustrate(first[0], best),
        )
        return write_report(study, course.out / "report")

    def _rounds(self, folds: Sequence[Fold], seed: int) -> list[Round]:
        again = "" if seed == self.course.seed else f"-seed-{seed}"
        return [Round(fold, seed, f"{fold.split.by}-{fold.number}{again}") for fold in folds]

    def _compare(self, rounds: Sequence[Round]) -> list[Evaluation]:
        """Compare translators by the reference embedder, then embedders by the best translator."""
        course = self.course
        reference = REFERENCE if REFERENCE in course.embedders else course.embedders[0]
        for each in rounds:
            for translator in course.translators:
                self._train_translator(each, translator)
            self._train_matcher(each)
        evaluations = [self._measure(rounds, name, reference) for name in course.translators]
        best = max(course.translators, key=lambda name: self._validate(rounds, name, reference))
        self.say(f"{_name(rounds)}: the best translator on the people set aside is {best}")
        others = [name for name in course.embedders if name != reference]
        others += [f"{name}{UNTRAINED}" for name in course.backbone_weights]
        return evaluations + [self._measure(rounds, best, name) for name in others]

    def _train_translator(self, each: Round, model: str) -> Path:
        config = load_preset(model, self.course.preset)
        assert isinstance(config, TranslatorConfig)
        plan = self._plan(each, model, config)
        return self._train(each, model, plan, lambda count: TranslatorTask(plan, count))

    def _train_matcher(self, each: Round) -> Path:
        config = load_preset(MATCHER, self.course.preset)
        assert isinstance(config, MatcherConfig)
        plan = self._plan(each, MATCHER, config)
        return self._train(each, MATCHER, plan, lambda count: MatcherTask(plan, count))

    def _train_embedder(self, each: Round, translator: str, name: str) -> Path:
        """Train an embedder on portraits and on a translator's faces, or describe one as it is."""
        backbone = name.removesuffix(UNTRAINED)
        config = load_preset(backbone, self.course.preset)
        assert isinstance(config, EmbedderConfig)
        if name.endswith(UNTRAINED):
            return self._describe_untrained(each, name, config)
        source = self._train_translator(each, translator)
        plan = replace(self._plan(each, backbone, config), sources={"translator": digest(source)})
        drawn = load_generator(source)
        name = f"{backbone}-{translator}"
        return self._train(
            each, name, plan, lambda count: EmbedderTask(plan, drawn, progress=count)
        )

    def _describe_untrained(self, each: Round, name: str, config: EmbedderConfig) -> Path:
        path, backbone = self._folder(each, name) / CHECKPOINT_FILE, name.removesuffix(UNTRAINED)
        weights = read_weights(self.course.backbone_weights[backbone], backbone)
        made = describe_untrained(backbone, self.course.preset, config, weights, each.seed)
        if not path.exists():
            save_checkpoint(path, made)
        return path

    def _train(
        self, each: Round, name: str, plan: Plan[Any], start: Callable[[Count], Task]
    ) -> Path:
        """Train to the end, going on where an earlier call was interrupted."""
        folder = self._folder(each, name)
        path, done = folder / CHECKPOINT_FILE, count_epochs(folder)
        if done == plan.config.schedule.total:
            self._refuse_other(path, plan)
            return path
        self.say(f"{each.name}: training {name}")
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
            "split": made.data.get("split"),
            "sources": made.data.get("sources", {}),
        }
        for key, value in theirs.items():
            if plan.identity[key] != value:
                raise ConfigError(
                    f"{path} was trained with another {key}: choose another --out, or remove"
                    f" {path.parent}"
                )

    def _measure(self, rounds: Sequence[Round], translator: str, embedder: str) -> Evaluation:
        """Evaluate on the people held out, unless that is done."""
        name = _name(rounds)
        path = self.course.out / _place(rounds, translator, embedder)
        systems = [self._systems(each, translator, embedder) for each in rounds]
        if path.exists():
            done = Evaluation.from_json(path.read_text(encoding="utf-8"))
            if _same(done, systems):
                return done
        self.say(f"{name}: evaluating {translator} with {embedder}")
        examiners = [self._examiner(*pair) for pair in zip(rounds, systems, strict=True)]
        with self.counting("searches") as count:
            evaluation = examine(examiners, self.course.networks, count)
        write_whole(path, evaluation.to_json())
        return evaluation

    def _validate(self, rounds: Sequence[Round], translator: str, embedder: str) -> float:
        """Return the mean reciprocal rank on people set aside from training, mean over folds."""
        return fmean(self._validate_round(each, translator, embedder) for each in rounds)

    def _validate_round(self, each: Round, translator: str, embedder: str) -> float:
        path = self.course.out / VALIDATION_FILE
        known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        systems = self._systems(each, translator, embedder)
        key = f"{each.name} {systems.translator.sha256} {systems.embedder.sha256}"
        if key not in known:
            known[key] = self._examiner(each, systems).validate()
            write_whole(path, json.dumps(known, indent=1) + "\n")
        return known[key]

    def _choose(self, rounds: Sequence[Round]) -> Best:
        """Choose the run with the best mean reciprocal rank on people set aside from training.

        Of several folds, the first one's networks are offered.
        """
        first = rounds[0]
        runs = [
            (translator, embedder)
            for translator in self.course.translators
            for embedder in self.course.embedders
            if (self._folder(first, f"{embedder}-{translator}") / CHECKPOINT_FILE).exists()
        ]
        figures = {run: self._validate(rounds, *run) for run in runs}
        translator, embedder = max(runs, key=figures.__getitem__)
        checkpoints = {
            "translator": self._folder(first, translator),
            "embedder": self._folder(first, f"{embedder}-{translator}"),
        }
        folds = f", mean of {len(rounds)} folds" if len(rounds) > 1 else ""
        return Best(
            translator=translator,
            embedder=embedder,
            checkpoints={
                part: (folder.relative_to(self.course.out) / CHECKPOINT_FILE).as_posix()
                for part, folder in checkpoints.items()
            },
            evaluation=_place(rounds, translator, embedder),
            why=(
                "the highest mean reciprocal rank"
                f" ({figures[translator, embedder]:.3f} of {len(runs)} runs{folds}) on people set"
                " aside from training, who are not the people tested"
            ),
        )

    def _systems(self, each: Round, translator: str, embedder: str) -> Systems:
        """Train what is missing, and load."""
        return Systems(
            read_trained(self._train_translator(each, translator), load_generator),
            read_trained(self._train_embedder(each, translator, embedder), load_embedder),
            read_trained(self._train_matcher(each), load_matcher),
            self.course.device,
        )

    def _examiner(self, each: Round, systems: Systems) -> Examiner:
        if each.fold.record not in self.grounds:
            config = load_preset(self.course.embedders[0], self.course.preset)
            recipe = systems.translator.checkpoint.config["soft_tissue"]
            plan = self._plan(each, self.course.embedders[0], config)
            self.grounds[each.fold.record] = Ground(plan, recipe, self.course.distractors)
        return Examiner(self.grounds[each.fold.record], systems)

    def _plan(self, each: Round, model: str, config: AnyConfig) -> Plan[Any]:
        course = self.course
        return Plan(
            model, course.preset, config, course.dataset, each.seed, course.device, each.fold
        )

    def _folder(self, each: Round, name: str) -> Path:
        return self.course.out / "runs" / each.name / name

    def _illustrate(self, each: Round, best: Best) -> Illustrations:
        self.say("drawing")
        systems = self._systems(each, best.translator, best.embedder)
        others = {
            name: read_trained(self._train_translator(each, name), load_generator)
            for name in self.course.translators
        }
        return illustrate(self._examiner(each, systems), best.translator, others)


def find_backbones(files: Sequence[Path]) -> dict[str, Path]:
    """Tell whose published weights each file holds, by hash. Raises DataError for others."""
    return {find_owner(path): path for path in files}


def _same(done: Evaluation, systems: Sequence[Systems]) -> bool:
    """Tell whether an evaluation is of these very networks."""
    networks = (
        [each.translator for each in systems],
        [each.embedder for each in systems],
        [each.matcher for each in systems if each.matcher],
    )
    return [done.translator, done.embedder, done.matcher] == [*map(describe_trained, networks)]


def _place(rounds: Sequence[Round], translator: str, embedder: str) -> str:
    """Name the file of an evaluation, from the study's folder."""
    return f"evaluations/{_name(rounds)}-{translator}-{embedder}.json"


def _name(rounds: Sequence[Round]) -> str:
    """Name rounds that are put together."""
    return rounds[0].name.replace(f"-{rounds[0].fold.number}", "-all", 1 if len(rounds) > 1 else 0)
