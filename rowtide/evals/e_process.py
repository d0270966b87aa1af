"""An e-process: a test of two versions that may be looked at after every row, in audits or in CI.

Planned looks do not serve where nobody knows how often there will be a look. An e-process does: it is a stake that,
bet against the candidate's being worse by the margin, cannot be expected to grow if it is. Ville's inequality: the
chance that it ever reaches 1/alpha is then at most alpha, however often one looks. Its price is power.

I. Waudby-Smith, A. Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024), 1-27.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STAKES = np.arange(1, 20) / 20  # 0.05 … 0.95 of what can be bet without the risk of a debt


def e_values(differences: npt.ArrayLike, margin: float) -> Floats:
    """Return the e-process after each observation, as an array of the same shape (…, observations); it starts from 1.

    A difference is the candidate's score less the incumbent's, from -1 to 1, one for each independent observation. E =
    mean over λ of Π (1 + λ(D + margin)), λ in {0.05 … 0.95}/(1 - margin). Raises ValueError for a margin outside [0, 1)
    or a difference outside [-1, 1].
    """
    observed = np.asarray(differences, np.float64)
    if not 0 <= margin < 1 or not np.all(np.abs(observed) <= 1):
        raise ValueError("a margin is at least 0 and below 1, a difference from -1 to 1")
    grown = np.log1p(STAKES[:, None] / (1 - margin) * (observed[..., None, :] + margin)).cumsum(axis=-1)
    with np.errstate(over="ignore"):
        return np.exp(grown).mean(axis=-2)


def is_not_worse(differences: npt.ArrayLike, margin: float, alpha: float) -> bool:
    """Return whether the e-process has ever reached 1/alpha, which proves that the candidate is not worse by the
    margin. Later observations cannot take the proof back.
    """
    reached = e_values(differences, margin)
    return bool(reached.size) and bool(reached.max() >= 1 / alpha)


def cluster_means(differences: Sequence[float], clusters: Iterable[Any]) -> list[float]:
    """Return one observation for each cluster (the parts of one document): the mean of its differences, in the order in
    which clusters first occur. Give whole clusters only: a mean must not change once it is observed.
    """
    found: dict[Any, list[float]] = {}
    for difference, cluster in zip(differences, clusters, strict=True):
        found.setdefault(cluster, []).append(difference)
    return [sum(each) / len(each) for each in found.values()]
