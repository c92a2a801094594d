"""Fashion-MNIST: ten kinds of clothes in 28 x 28 grey pixels."""

from __future__ import annotations

from nsbench.data.images import Collection, HubImages, IdxFolder, IdxPackage
from nsbench.data.tasks.image import ImageTask
from nsbench.data.tasks.registry import task

FASHION_MNIST = Collection(
    name="Fashion-MNIST",
    shape=(28, 28, 1),
    sizes={"train": 60_000, "test": 10_000},
    n_classes=10,
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    sources=(
        IdxFolder("NSBENCH_FASHION_MNIST"),
        IdxPackage("Debian's package dataset-fashion-mnist", "/usr/share/datasets/fashion-mnist"),
        HubImages(
            "zalando-datasets/fashion_mnist", "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2", "fashion_mnist", "image"
        ),
    ),
)
"""Pictures of clothes (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747), under the MIT licence.

No two of the 70,000 images are equal, so no test image is in training; 12 of the 10,000 are within 8 grey levels (root
mean square) of a training image, one of them within 1, all with its label.
"""


@task("fashion_mnist")
class FashionMnist(ImageTask):
    """Ten kinds of clothes: 60,000 training and 10,000 test images of Fashion-MNIST."""

    title = "Fashion-MNIST"

    @property
    def collection(self) -> Collection:
        return FASHION_MNIST
