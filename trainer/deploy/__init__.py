"""A job on Kubernetes: manifests from the job file, their checks, and a thin client. No torch."""

from trainer.deploy.plan import Plan, Request, plan
from trainer.deploy.render import render, to_yaml

__all__ = ["Plan", "Request", "plan", "render", "to_yaml"]
