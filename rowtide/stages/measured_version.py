"""Computes the fingerprint of a job's version that a verdict belongs to: with where its rows start, and which models
are behind its tiers.
"""

import hashlib
from collections.abc import Sequence

import orjson

from rowtide.job.job_folder import Job
from rowtide.routing.difficulty import ROUTER_FILE


def measured_version(job: Job, model_ids: Sequence[str]) -> str:
    """Return the fingerprint of all that decides a job's answers. `job` is on the ladder that it runs on; `model_ids`
    are the API's models of that ladder.
    """
    file = job.folder / ROUTER_FILE
    router = hashlib.blake2b(file.read_bytes()).hexdigest() if file.is_file() else ""
    starts = job.spec.model_dump(mode="json", include={"start", "difficulty", "escalation"})
    decides = [job.version.asking, job.version.judging, job.spec.tiers, list(model_ids), starts, router]
    return hashlib.blake2b(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
