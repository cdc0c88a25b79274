"""Jobs: functions that run later, in a worker, once what enqueued them has committed. Made by `Messages.job`."""

from mainstay.patterns.jobs.arguments import BadArguments
from mainstay.patterns.jobs.job import Job, Options
from mainstay.patterns.jobs.result import JobFailed, JobStatus, NoResult

__all__ = ["BadArguments", "Job", "JobFailed", "JobStatus", "NoResult", "Options"]
