"""The CCC loss, the torch counterpart of ``ser_bench.scoring.ccc``.

Letters: b utterances in a batch, k attributes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ser_bench.errors import TrainingError


def concordance_per_column(prediction: Tensor, target: Tensor) -> Tensor:
    """Return Lin's CCC of each column, differentiable.

    2 cov(p, t) / (var p + var t + (mean p - mean t)^2), population moments (Lin 1989, Biometrics 45(1), 255). A column
    whose denominator is 0 (both constant and equal) counts as 0 and has gradient 0: a batch may be like that, and
    training must survive it.

    Args:
        prediction: [b, k], any unit, any float type; moments are taken in float32 or wider.
        target: [b, k], the same unit.

    Returns:
        [k], in the type of the moments.

    Raises:
        TrainingError: the shapes differ or are not [b, k] with b >= 2.
    """
    if prediction.ndim != 2 or prediction.shape != target.shape or len(prediction) < 2:
        raise TrainingError(
            f"the CCC loss was given predictions {list(prediction.shape)} and labels {list(target.shape)}; it takes the"
            " same shape [b, k] for both, with b of 2 or more. Use a batch of at least two utterances."
        )
    wide = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    p, t = prediction.to(wide), target.to(wide)
    # Without its first row a constant column is exactly 0, so that its denominator is, too. The CCC does not move with
    # a shift of its centred parts: no gradient is lost by detaching.
    dp, dt = p - p[0].detach(), t - t[0].detach()
    dp, dt = dp - dp.mean(0), dt - dt.mean(0)  # [b, k]
    gap = (p - t).mean(0)  # [k]
    denominator = (dp * dp).mean(0) + (dt * dt).mean(0) + gap * gap
    dead = denominator == 0
    # The division itself must not see the 0: 0 * inf in the backward pass is NaN.
    ratio = 2 * (dp * dt).mean(0) / torch.where(dead, torch.ones_like(denominator), denominator)
    return torch.where(dead, torch.zeros_like(ratio), ratio)


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return 1 - CCC, averaged over the columns: 0 is perfect, 1 no better than a constant, 2 the worst.

    Args:
        prediction: [b, k] of the *global* batch: a CCC is not the average of its parts' CCCs.
        target: [b, k], the same unit.

    Returns:
        Scalar.

    Raises:
        TrainingError: as ``concordance_per_column``.
    """
    return 1 - concordance_per_column(prediction, target).mean()
