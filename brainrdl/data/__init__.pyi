from .cifar import cifar_checksums as cifar_checksums, load_cifar as load_cifar, split_cifar as split_cifar
from .digits import load_digits as load_digits
from .idx import read_idx as read_idx, write_idx as write_idx
from .images import (
    LabelledImages as LabelledImages,
    checksum as checksum,
    stratified_split as stratified_split,
    to_float as to_float,
)
from .infimnist import Deformation as Deformation, InfiMNIST as InfiMNIST, read_infimnist_idx as read_infimnist_idx
from .loader import TensorLoader as TensorLoader
from .mnist import load_mnist as load_mnist, mnist_checksums as mnist_checksums, split_mnist as split_mnist
from .transforms import flip_half as flip_half, normalize_contrast as normalize_contrast
