"""Data sets: labelled images with stimulus ids, and loaders that keep them on the device."""

from brainrdl.data.cifar import cifar_checksums, load_cifar, split_cifar
from brainrdl.data.digits import load_digits
from brainrdl.data.idx import read_idx, write_idx
from brainrdl.data.images import LabelledImages, checksum, stratified_split, to_float
from brainrdl.data.infimnist import Deformation, InfiMNIST, read_infimnist_idx
from brainrdl.data.loader import TensorLoader
from brainrdl.data.mnist import load_mnist, mnist_checksums, split_mnist
from brainrdl.data.transforms import flip_half, normalize_contrast

__all__ = [
    "Deformation",
    "InfiMNIST",
    "LabelledImages",
    "TensorLoader",
    "checksum",
    "cifar_checksums",
    "flip_half",
    "load_cifar",
    "load_digits",
    "load_mnist",
    "mnist_checksums",
    "normalize_contrast",
    "read_idx",
    "read_infimnist_idx",
    "split_cifar",
    "split_mnist",
    "stratified_split",
    "to_float",
    "write_idx",
]
