"""Stimuli: images that carry an id."""

import os
from collections.abc import Callable, Iterable
from operator import index
from pathlib import Path
from typing import Any, Protocol, Self, SupportsIndex, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from brainrdl.arguments import name_some, whole_number
from brainrdl.files.store import path_of
from brainrdl.ids import check_ids, find_ids
from brainrdl.stimuli.image_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES, find_images
from brainrdl.stimuli.image_reading import read_rgb


class _Images(Protocol):
    """A source of images: the i-th as a tensor, in memory that the source does not share."""

    def __getitem__(self, position: int, /) -> Any: ...


@final
class StimulusSet(Dataset[tuple[Tensor, str]]):
    """Images with ids, in a fixed order.

    A map-style dataset of ``(image, id)``, made by `from_folder`, `from_arrays` or `from_dataset`; images load lazily.

    Parameters
    ----------
    images : object with ``images[position] -> Tensor``
        Source of the images. The class methods make it.
    ids : sequence of str
        Unique ids, one per image.

    Attributes
    ----------
    ids : tuple of str
        Ids, in order.

    Raises
    ------
    TypeError, ValueError
        If the ids are not unique, non-empty strings, or there are none.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> stimuli = rdl.StimulusSet.from_arrays(torch.rand(3, 1, 28, 28), ["face", "house", "shoe"])
    >>> image, stimulus = stimuli[1]
    >>> image.shape, stimulus
    (torch.Size([1, 28, 28]), 'house')
    >>> images, ids = stimuli.select(["shoe", "face"]).batch()
    >>> images.shape, ids
    (torch.Size([2, 1, 28, 28]), ('shoe', 'face'))
    """

    def __init__(self, images: _Images, ids: Iterable[str]) -> None:
        self.ids = check_ids(ids, "ids")
        if not self.ids:
            raise ValueError("ids is empty; a StimulusSet needs at least one stimulus")
        self._images = images
        self._positions: tuple[int, ...] = tuple(range(len(self.ids)))

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        transform: Callable[[Image.Image], Tensor] | None = None,
        *,
        follow_links: bool = False,
        max_bytes: SupportsIndex | None = None,
    ) -> Self:
        """Take the images in a folder and in the folders below it.

        Parameters
        ----------
        path : path of a folder
            Folder. Names that begin with a dot, and Thumbs.db and the like, are not looked at; files that do not end as
            images do (`IMAGE_SUFFIXES`) are left out with a warning that names them. Each real file is one stimulus: a
            link to what is there under its own name is left out with a warning too.
        transform : callable, optional
            Function from a PIL image in RGB to a tensor; by default floats in [0, 1], shape (3, height, width). The
            image is upright, as its EXIF orientation says; grey becomes RGB; colour profiles are not applied.
        follow_links : bool
            Permission to read what links lead to outside of the folder.
        max_bytes : int, optional
            Memory that one image may take, at 24 bytes a pixel; a quarter of the machine's by default. Beyond Pillow's
            own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, no image is read.

        Returns
        -------
        StimulusSet
            Images sorted by id, their path below `path` without the suffix: ``faces/anna.png`` is ``faces/anna``. They
            are sorted as text, ``img10`` before ``img2``, which is seldom the order of rows in a file.

        Raises
        ------
        NotADirectoryError
            If `path` is not a folder.
        ValueError
            If there is no image in it, a link leads out of it, a name is not UTF-8 or has a control character, or two
            images share an id (``a.png`` and ``a.jpg``) or have ids that read the same. When an image is asked for: if
            it is too large, or holds transparent pixels, several frames, more than 8 bits per channel, or colours
            of print (CMYK, LAB), none of which RGB can hold.
        OSError, TypeError
            When an image is asked for: if its file cannot be read, or `transform` does not return a tensor.

        Examples
        --------
        >>> import tempfile, PIL.Image, brainrdl as rdl
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     PIL.Image.new("RGB", (8, 6)).save(f"{folder}/grey.png")
        ...     stimuli = rdl.StimulusSet.from_folder(folder)
        ...     stimuli.ids, stimuli[0][0].shape
        (('grey',), torch.Size([3, 6, 8]))
        """
        if max_bytes is not None:
            whole_number(max_bytes, "max_bytes", at_least=1)
        files = find_images(path_of(path, "path"), follow_links=follow_links)
        return cls(_Files(tuple(files.values()), transform or _to_float, max_bytes), files)

    @classmethod
    def from_arrays(cls, images: Tensor | np.ndarray, ids: Iterable[str]) -> Self:
        """Give ids to the images of an array.

        Parameters
        ----------
        images : Tensor or ndarray (n, ...)
            Images, floating point or uint8, which stays as it is. The array is not copied, so that one mapped from disk
            stays there; the image that is handed out is a copy.
        ids : sequence of str (n,)
            Unique ids, one per image, in the array's order.

        Returns
        -------
        StimulusSet

        Raises
        ------
        TypeError
            If `images` is neither a tensor nor an array, or of another data type.
        ValueError
            If it is not a stack of images, or there are more or fewer ids than images.

        Examples
        --------
        >>> import numpy as np, brainrdl as rdl
        >>> rdl.StimulusSet.from_arrays(np.zeros((2, 3, 8, 8), dtype="uint8"), ["left", "right"])
        StimulusSet(2 stimuli: 'left', 'right')
        """
        if not isinstance(images, Tensor | np.ndarray):
            raise TypeError(f"images is a {type(images).__name__}; expected a Tensor or ndarray of shape (n, ...)")
        is_float = images.is_floating_point() if isinstance(images, Tensor) else images.dtype.kind == "f"
        if not is_float and images.dtype not in (torch.uint8, np.uint8):
            raise TypeError(f"images is of type {images.dtype}; convert it to uint8 or to floating point")
        if images.ndim < 2:
            raise ValueError(
                f"images has shape {tuple(images.shape)}, expected (n, ...); for a single image add the "
                "first axis: images[None]"
            )
        checked = check_ids(ids, "ids")
        _same_length(len(checked), len(images), "images")
        return cls(_Rows(images), checked)

    @classmethod
    def from_dataset(cls, dataset: Dataset[Any], ids: Iterable[str]) -> Self:
        """Give ids to the images of a dataset.

        Parameters
        ----------
        dataset : map-style Dataset
            Dataset that yields the image, or a tuple whose first element is the image, as a tensor.
        ids : sequence of str
            Unique ids, one per item, in the dataset's order.

        Returns
        -------
        StimulusSet

        Raises
        ------
        TypeError
            If `dataset` has no length or cannot be indexed; when an image is asked for, if it is not a tensor.
        ValueError
            If there are more or fewer ids than items.

        Examples
        --------
        >>> import torch, brainrdl as rdl
        >>> labelled = torch.utils.data.TensorDataset(torch.rand(2, 1, 8, 8), torch.tensor([7, 3]))
        >>> rdl.StimulusSet.from_dataset(labelled, ["seven", "three"])
        StimulusSet(2 stimuli: 'seven', 'three')
        """
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"dataset is a {type(dataset).__name__} without a length or without indexing; expected a "
                "map-style dataset, with __len__ and __getitem__"
            )
        checked = check_ids(ids, "ids")
        _same_length(len(checked), len(dataset), "items in the dataset")
        return cls(_FirstOfItem(dataset), checked)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> tuple[Tensor, str]:
        try:
            wanted = index(position)
        except TypeError:
            raise TypeError(
                f"a StimulusSet is indexed by one integer, not {position!r}; select(ids) takes stimuli by "
                "id, batch(indices) several by position"
            ) from None
        if not -len(self) <= wanted < len(self):
            raise IndexError(f"position {wanted} is outside a StimulusSet of {len(self)} stimuli")
        stimulus = self.ids[wanted]
        image = self._images[self._positions[wanted]]
        if not isinstance(image, Tensor):
            raise TypeError(
                f"the image of stimulus {stimulus!r} is a {type(image).__name__}, expected a Tensor; let the "
                "transform return one"
            )
        return image, stimulus

    def __repr__(self) -> str:
        return f"StimulusSet({len(self)} stimuli: {name_some(self.ids)})"

    def select(self, ids: Iterable[str]) -> "StimulusSet":
        """Take some of the stimuli, in the order given.

        Parameters
        ----------
        ids : sequence of str
            Ids of the stimuli.

        Returns
        -------
        StimulusSet

        Raises
        ------
        TypeError, ValueError
            If an id is unknown or occurs twice, or there are none.

        Examples
        --------
        >>> import torch, brainrdl as rdl
        >>> rdl.StimulusSet.from_arrays(torch.rand(3, 8), ["a", "b", "c"]).select(["c", "a"]).ids
        ('c', 'a')
        """
        chosen = check_ids(ids, "ids")
        positions = find_ids(chosen, self.ids, "the StimulusSet")
        selected = StimulusSet(self._images, chosen)
        selected._positions = tuple(self._positions[position] for position in positions)
        return selected

    def batch(self, indices: Iterable[int] | None = None) -> tuple[Tensor, tuple[str, ...]]:
        """Stack images.

        Parameters
        ----------
        indices : sequence of int, optional
            Positions in the set, in the order wanted; all stimuli when absent.

        Returns
        -------
        images : Tensor (n, ...)
        ids : tuple of str (n,)

        Raises
        ------
        ValueError
            If the images differ in shape or type, or `indices` is empty.
        IndexError
            If a position is outside the set.

        Examples
        --------
        >>> import torch, brainrdl as rdl
        >>> images, ids = rdl.StimulusSet.from_arrays(torch.rand(3, 8), ["a", "b", "c"]).batch([2, 0])
        >>> images.shape, ids
        (torch.Size([2, 8]), ('c', 'a'))
        """
        items = [self[i] for i in (range(len(self)) if indices is None else indices)]
        if not items:
            raise ValueError("indices is empty; a batch needs at least one stimulus")
        first, first_id = items[0]
        for image, stimulus in items:
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                raise ValueError(
                    f"stimulus {first_id!r} is {tuple(first.shape)} of {first.dtype}, but stimulus "
                    f"{stimulus!r} is {tuple(image.shape)} of {image.dtype}; give a transform that makes all "
                    "images alike (such as torchvision.transforms.v2.Resize)"
                )
        return torch.stack([image for image, _ in items]), tuple(stimulus for _, stimulus in items)


class _Files:
    """Images of files, through a transform."""

    def __init__(
        self, paths: tuple[Path, ...], transform: Callable[[Image.Image], Tensor], max_bytes: SupportsIndex | None
    ) -> None:
        self._paths = paths
        self._transform = transform
        self._max_bytes = max_bytes

    def __getitem__(self, position: int) -> Any:
        return self._transform(read_rgb(self._paths[position], self._max_bytes))


class _Rows:
    """The rows of an array, copied so that a consumer who writes to an image leaves the stimulus as it is."""

    def __init__(self, images: Tensor | np.ndarray) -> None:
        self._images = images

    def __getitem__(self, position: int) -> Tensor:
        if isinstance(self._images, Tensor):
            return self._images[position].detach().clone()
        # files hold either byte order, torch only the machine's own
        return torch.from_numpy(np.array(self._images[position], dtype=self._images.dtype.newbyteorder("=")))


class _FirstOfItem:
    """The first element of each item of a dataset."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, position: int) -> Any:
        item = self._dataset[position]
        return item[0] if isinstance(item, tuple | list) else item


def _to_float(image: Image.Image) -> Tensor:
    # imported here: it takes as long as torch itself, and only folders need it
    from torchvision.transforms.v2 import functional

    tensor: Tensor = functional.to_dtype(functional.pil_to_tensor(image), torch.float32, scale=True)
    return tensor


def _same_length(n_ids: int, n_images: int, what: str) -> None:
    if n_ids != n_images:
        raise ValueError(f"{n_ids} ids for {n_images} {what}; expected one id each, in the same order")
