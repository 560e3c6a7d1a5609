"""The job file: one validated, frozen object per section. Imports no torch."""

from trainer.job.checkpoint import CheckpointSection
from trainer.job.compilation import CompileSection
from trainer.job.data import DataSection
from trainer.job.docs import render_docs
from trainer.job.elastic import ElasticSection, ProbeSection
from trainer.job.entrypoint import EntrypointSection
from trainer.job.faults import Fault, parse_fault
from trainer.job.kubernetes import KubernetesSection
from trainer.job.model import ModelSection
from trainer.job.parallel import ParallelSection
from trainer.job.presets import PRESETS, Sizes
from trainer.job.reading import from_mapping, load
from trainer.job.run import RunSection
from trainer.job.schema import Job
from trainer.job.train import OptimizerSection, ScheduleSection, TrainSection
from trainer.job.writing import dump, json_schema, resolved

__all__ = [
    "PRESETS",
    "CheckpointSection",
    "CompileSection",
    "DataSection",
    "ElasticSection",
    "EntrypointSection",
    "Fault",
    "Job",
    "KubernetesSection",
    "ModelSection",
    "OptimizerSection",
    "ParallelSection",
    "ProbeSection",
    "RunSection",
    "ScheduleSection",
    "Sizes",
    "TrainSection",
    "dump",
    "from_mapping",
    "json_schema",
    "load",
    "parse_fault",
    "render_docs",
    "resolved",
]
