"""The paper's experiments: MNIST, CIFAR-100, and digits."""
