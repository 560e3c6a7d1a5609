"""The whole job: one validated object per section, and what they must agree on."""

from __future__ import annotations

from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from trainer.errors import JobError
from trainer.job.checkpoint import CheckpointSection
from trainer.job.compilation import CompileSection
from trainer.job.data import DataSection
from trainer.job.elastic import ElasticSection
from trainer.job.entrypoint import EntrypointSection
from trainer.job.faults import Fault
from trainer.job.kubernetes import KubernetesSection
from trainer.job.model import ModelSection
from trainer.job.parallel import ParallelSection
from trainer.job.run import RunSection
from trainer.job.section import Section
from trainer.job.train import TrainSection

TRAINING_SECTIONS = ("model", "data", "train", "parallel", "compile", "checkpoint")


class Job(Section):
    """One training run: either a model to train, or an entrypoint to start."""

    name: str = Field(
        "job",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$",
        description="Name of the job, in lower case letters, digits and hyphens; by default the "
        "file's.",
    )
    model: ModelSection = Field(ModelSection(), description="What is trained.")
    data: DataSection = Field(DataSection(), description="Where the samples come from.")
    train: TrainSection = Field(
        TrainSection(),
        description="How long, in what portions, and with which optimizer.",
    )
    parallel: ParallelSection = Field(
        ParallelSection(), description="How the work is spread over the ranks."
    )
    compile: CompileSection = Field(CompileSection(), description="Compilation of the blocks.")
    checkpoint: CheckpointSection = Field(
        CheckpointSection(), description="What is saved, when, and for how long."
    )
    entrypoint: EntrypointSection | None = Field(
        None, description="A program of the user's own, in place of model, data and train."
    )
    elastic: ElasticSection = Field(
        ElasticSection(), description="Who takes part, and how patient the job is."
    )
    faults: tuple[Fault, ...] = Field((), description="Failures to rehearse.")
    run: RunSection = Field(RunSection(), description="Where the run is kept, and its seed.")
    kubernetes: KubernetesSection = Field(
        KubernetesSection(), description="How the job looks on a cluster."
    )

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        from trainer.job.checks import problems

        found = problems(self)
        if found:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError("job", "{text}", {"text": problem.text}),
                    loc=problem.key,
                    input=None,
                )
                for problem in found
            ]
            raise ValidationError.from_exception_data("Job", details)
        return self

    @property
    def trains(self) -> bool:
        """Whether a model is trained here, rather than a program of the user's own started."""
        return self.entrypoint is None

    @property
    def private(self) -> bool:
        """Whether its text may hold passwords: what programs and object stores are given."""
        env = self.entrypoint is not None and self.entrypoint.env
        return bool(env or self.checkpoint.storage_options or self.kubernetes.env)

    @property
    def saves(self) -> bool:
        """Whether checkpoints are made here: of the model, or of what a loop hands over."""
        return self.entrypoint is None or self.entrypoint.elastic

    def pieces(self, slots_per_node: int | None = None) -> int:
        """Into how many pieces every global batch is cut: the same on any mesh of the job.

        `slots_per_node` stands in where `elastic.nproc_per_node` is not yet a number.

        Raises:
            JobError: that is needed and not given, or the batch does not divide.
        """
        pieces = self._pieces(slots_per_node)
        try:
            self.train.samples_per_microbatch(pieces)
        except ValueError as error:
            raise JobError(f"train.batch: {error}") from None
        return pieces

    def _pieces(self, slots_per_node: int | None) -> int:
        if self.train.pieces != "auto":
            return self.train.pieces
        parallel, elastic = self.parallel, self.elastic
        if parallel.data != "auto":
            return parallel.data
        slots = elastic.nproc_per_node
        if isinstance(slots, str):
            if slots_per_node is None:
                raise JobError(
                    "train.pieces: auto follows from elastic.nproc_per_node, which is "
                    f"{slots}; make one of them a number"
                )
            slots = slots_per_node
        if parallel.tensor_across_nodes:
            groups = elastic.max_nodes * slots // parallel.tensor
        else:
            groups = elastic.max_nodes * (slots // parallel.tensor)
        return max(1, groups // parallel.pipeline)
