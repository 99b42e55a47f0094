"""Images of 32 x 32 pixels, cut from the photographs that scikit-image and scikit-learn carry.

The question is which of 16 photographs a patch is from. Each photograph is cut into tiles of 64
pixels; every fourth tile is for testing and no training patch touches it. Colours are mixed at
random and contrast is taken out, and much of a photograph is sky, wall or blur: chance is 6 %, and
it is far from easy.
"""

import functools

import numpy as np
import torch

COLOUR = ("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry", "retina")
COLOUR += ("rocket",)
GREY = ("brick", "camera", "coins", "grass", "gravel", "moon")
TILE, SIDE = 64, 32
TRAIN, TEST = 8192, 2048


def photographs() -> list[np.ndarray]:
    """16 photographs, height x width x 3, from 0 to 1."""
    import skimage.data
    import sklearn.datasets

    found = [getattr(skimage.data, name)() for name in COLOUR]
    found += [skimage.data.stereo_motorcycle()[0], *sklearn.datasets.load_sample_images().images]
    found += [np.repeat(getattr(skimage.data, name)()[..., None], 3, 2) for name in GREY]
    return [image.astype(np.float32) / 255 for image in found]


def corners(image: np.ndarray, testing: bool) -> np.ndarray:
    """The top left corners of the tiles to train on, or of those to test on."""
    rows, columns = image.shape[0] // TILE, image.shape[1] // TILE
    grid = np.stack(np.mgrid[:rows, :columns], -1).reshape(-1, 2)
    tested = (grid[:, 0] + 2 * grid[:, 1]) % 4 == 0
    return grid[tested == testing] * TILE


def patches(count: int, testing: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """So many patches with new colours, count x 3 x 32 x 32, and the photographs they are from."""
    rng = np.random.default_rng(seed)
    images = photographs()
    labels = rng.integers(len(images), size=count)
    found = np.empty((count, 3, SIDE, SIDE), np.float32)
    for index, label in enumerate(labels):
        places = corners(images[label], testing)
        y, x = places[rng.integers(len(places))] + rng.integers(TILE - SIDE + 1, size=2)
        patch = images[label][y : y + SIDE, x : x + SIDE]
        if rng.integers(2):
            patch = patch[:, ::-1]
        mixing = rng.normal(size=(3, 3)) * 0.15 + 1 / 3
        found[index] = (patch @ mixing.astype(np.float32)).transpose(2, 0, 1)
    found -= found.mean((2, 3), keepdims=True)
    found /= found.std((2, 3), keepdims=True) + 0.02
    found += rng.normal(size=found.shape).astype(np.float32) * 0.05
    return torch.from_numpy(found), torch.from_numpy(labels)


@functools.cache
def training_set() -> tuple[torch.Tensor, torch.Tensor]:
    """What is trained on."""
    return patches(TRAIN, testing=False, seed=1)


@functools.cache
def test_set() -> tuple[torch.Tensor, torch.Tensor]:
    """What is tested on."""
    return patches(TEST, testing=True, seed=2)
