"""Fashion-MNIST: ten kinds of clothes in 28 x 28 grey pixels."""

from __future__ import annotations

from nsbench.data.images import FASHION_MNIST
from nsbench.data.tasks.image import ImageTask
from nsbench.data.tasks.registry import task


@task("fashion_mnist")
class FashionMnist(ImageTask):
    """Ten kinds of clothes (Xiao, Rasul and Vollgraf, 2017), 60,000 training and 10,000 test images."""

    title = "Fashion-MNIST"
    collection = FASHION_MNIST
