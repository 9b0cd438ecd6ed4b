"""The 8 × 8 digits that ship with scikit-learn: real data without a download."""

import torch

from brainrdl.data.images import LabelledImages, stratified_split

_SIZES = (1_000, 297, 500)
_SPLIT_SEED = 0


def load_digits() -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """Load scikit-learn's 1,797 handwritten digits, split for training, validation and test.

    The images are the test part of the UCI "Optical Recognition of Handwritten Digits" set: 8 × 8 pixels from
    0 to 16, each the number of dark pixels in a 4 × 4 block of the scan. The split is random with a fixed
    seed and keeps the share of every class.

    Returns
    -------
    training : LabelledImages
        1,000 images (1, 8, 8), top 16. Ids are ``digits-0000`` to ``digits-1796``, the position in scikit-learn's set.
    validation : LabelledImages
        297 images.
    test : LabelledImages
        500 images.

    Notes
    -----
    scikit-learn's set has no record of who wrote which digit, so that writers are shared by the three parts.

    Examples
    --------
    >>> from brainrdl.data import load_digits
    >>> training, validation, test = load_digits()
    >>> len(training), len(validation), len(test), tuple(test.images.shape), test.top
    (1000, 297, 500, (500, 1, 8, 8), 16)
    """
    from sklearn.datasets import load_digits as load_from_sklearn  # a second of import time that few users need

    bunch = load_from_sklearn()
    digits = LabelledImages(
        images=torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1),
        labels=torch.from_numpy(bunch.target).to(torch.int64),
        ids=tuple(f"digits-{row:04d}" for row in range(len(bunch.target))),
        classes=tuple(str(digit) for digit in range(10)),
        top=16,
    )
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    training, validation, test = stratified_split(digits.labels, _SIZES, generator)
    return digits.take(training), digits.take(validation), digits.take(test)
