"""Functions that generated steps carry with them; what a step calls is copied into its file.

Each stands on its own, with others of this file at most, and uses nothing but torch. Those that the
portable profile calls keep to matmul, convolution, elementwise operations, gather, and fixed
shapes.
"""

import torch
import torch.nn.functional as F


def conv1d_weight(x, shape, dy, stride=1, padding=0, dilation=1, groups=1):
    """Gradient to the weight of a convolution, which is a convolution of x with dy."""
    groups_x, groups_dy = _channels_first(x, groups), _channels_last(dy, groups)
    dw = F.conv1d(groups_x, groups_dy, None, dilation, padding, stride, groups)
    return dw[:, :, : shape[2]].transpose(0, 1)


def conv2d_weight(x, shape, dy, stride=1, padding=0, dilation=1, groups=1):
    """Gradient to the weight of a convolution, which is a convolution of x with dy."""
    groups_x, groups_dy = _channels_first(x, groups), _channels_last(dy, groups)
    dw = F.conv2d(groups_x, groups_dy, None, dilation, padding, stride, groups)
    return dw[:, :, : shape[2], : shape[3]].transpose(0, 1)


def conv3d_weight(x, shape, dy, stride=1, padding=0, dilation=1, groups=1):
    """Gradient to the weight of a convolution, which is a convolution of x with dy."""
    groups_x, groups_dy = _channels_first(x, groups), _channels_last(dy, groups)
    dw = F.conv3d(groups_x, groups_dy, None, dilation, padding, stride, groups)
    return dw[:, :, : shape[2], : shape[3], : shape[4]].transpose(0, 1)


def _channels_first(x, groups):
    """(n, groups * c, ...) as (c, groups * n, ...)."""
    split = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return split.transpose(0, 2).reshape(-1, groups * x.shape[0], *x.shape[2:])


def _channels_last(dy, groups):
    """(n, groups * c, ...) as (groups * c, n, ...)."""
    return dy.transpose(0, 1)


def window_offsets(flat, shape, kernel, stride, padding):
    """Places in a plane, as max_pool2d gives them, as places in the window, which fit a byte."""
    rows = torch.arange(flat.shape[2], device=flat.device) * stride[0] - padding[0]
    columns = torch.arange(flat.shape[3], device=flat.device) * stride[1] - padding[1]
    row = flat // shape[3] - rows[:, None]
    return (row * kernel[1] + flat % shape[3] - columns).to(torch.uint8)


def unpool(dy, index, shape, kernel, stride, padding):
    """Gradients put where the largest of each window was; what meets is added."""
    rows = torch.arange(dy.shape[2], device=dy.device) * stride[0] - padding[0]
    columns = torch.arange(dy.shape[3], device=dy.device) * stride[1] - padding[1]
    index = index.long()
    flat = (rows[:, None] + index // kernel[1]) * shape[3] + columns + index % kernel[1]
    dx = dy.new_zeros(shape[0], shape[1], shape[2] * shape[3])
    return dx.scatter_add(2, flat.flatten(2), dy.flatten(2)).view(shape)


def max_windows(x, kernel, stride, padding):
    """The largest of each window, and its place in the window."""
    padded = F.pad(x, (padding[1],) * 2 + (padding[0],) * 2, value=float("-inf"))
    height = (padded.shape[2] - kernel[0]) // stride[0] + 1
    width = (padded.shape[3] - kernel[1]) // stride[1] + 1
    best = index = None
    for place in range(kernel[0] * kernel[1]):
        top, left = place // kernel[1], place % kernel[1]
        bottom, right = top + (height - 1) * stride[0] + 1, left + (width - 1) * stride[1] + 1
        seen = padded[:, :, top : bottom : stride[0], left : right : stride[1]]
        if best is None:
            best, index = seen, torch.zeros_like(seen, dtype=torch.uint8)
        else:
            index = torch.where(seen > best, place, index)
            best = torch.maximum(seen, best)
    return best, index


def spread_windows(dy, index, shape, kernel, stride, padding):
    """Gradients put where the largest of each window was, by a convolution with single ones."""
    places = kernel[0] * kernel[1]
    planes = dy.reshape(-1, 1, dy.shape[2], dy.shape[3])
    place = torch.arange(places, device=dy.device)[:, None, None]
    at = index.reshape(planes.shape) == place
    ones = torch.eye(places, dtype=dy.dtype, device=dy.device)
    ones = ones.reshape(places, 1, kernel[0], kernel[1])
    spread = F.conv_transpose2d(planes * at, ones, stride=stride)
    return _fit(spread, shape, padding)


def spread_means(dy, shape, kernel, stride, padding):
    """Gradients of means shared out over their windows."""
    planes = dy.reshape(-1, 1, dy.shape[2], dy.shape[3])
    share = torch.full((1, 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype=dy.dtype)
    spread = F.conv_transpose2d(planes, share.to(dy.device), stride=stride)
    return _fit(spread, shape, padding)


def _fit(spread, shape, padding):
    """Take the padding off, and add the rows and columns that no window saw."""
    bottom = shape[2] + padding[0] - spread.shape[2]
    right = shape[3] + padding[1] - spread.shape[3]
    return F.pad(spread, (-padding[1], right, -padding[0], bottom)).reshape(shape)


def window_means(count, length, like):
    """(count, length): row i takes the mean from i * length / count on, to the next, rounded up."""
    index = torch.arange(length, device=like.device)
    row = torch.arange(count, device=like.device)[:, None]
    start, stop = row * length // count, ((row + 1) * length + count - 1) // count
    inside = ((index >= start) & (index < stop)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def interpolation(count, length, like, corners=False):
    """(count, length): the two neighbours of each new place and how near they are."""
    place = torch.arange(count, dtype=like.dtype, device=like.device)
    if corners:
        place = place * ((length - 1) / max(count - 1, 1))
    else:
        place = ((place + 0.5) * (length / count) - 0.5).clamp(0, length - 1)
    index = torch.arange(length, dtype=like.dtype, device=like.device)
    return (1 - (place[:, None] - index).abs()).clamp(min=0)


def sum_rows(values, index, rows):
    """Rows of values that have one index, added up."""
    sums = values.new_zeros(rows, *values.shape[1:])
    return sums.index_add(0, index, values)


def sum_rows_portable(values, index, rows):
    """Rows of values that have one index, added up by a product with a matrix of ones."""
    ones = (torch.arange(rows, device=index.device)[:, None] == index).to(values.dtype)
    return (ones @ values.reshape(values.shape[0], -1)).reshape(rows, *values.shape[1:])


def one_hot(target, classes, axis, like):
    """1 at the right class, 0 at the others."""
    shape = [1] * like.dim()
    shape[axis] = classes
    every = torch.arange(classes, device=like.device).reshape(shape)
    return (target.unsqueeze(axis) == every).to(like.dtype)


def causal_mask(length, like):
    """0 where a place may look, minus infinity at those after it."""
    place = torch.arange(length, device=like.device)
    later = (place[:, None] < place).to(like.dtype)
    return torch.where(later > 0, float("-inf"), 0.0).to(like.dtype)


def keep_mask(shape, keep, seed, device):
    """True with the chance that keep says: a hash of the place and the seed, modulo 2^31 - 1."""
    size, prime = 1, 2147483647
    for length in shape:
        size *= length
    state = (torch.arange(size, device=device) * 1103515245 + seed * 12345 + 1) % prime
    for _ in range(3):
        state = (state * state + 48271) % prime
        state = (state * 69621 + state // 32768 + seed) % prime
    return (state < int(keep * prime)).reshape(shape)


def pack_bits(mask):
    """Eight elements a byte: those of the first eighth are the lowest bits."""
    eighths = F.pad(mask.reshape(-1).to(torch.uint8), (0, -mask.numel() % 8)).reshape(8, -1)
    packed = eighths[0]
    for bit in range(1, 8):
        packed = packed + eighths[bit] * 2**bit
    return packed


def unpack_bits(packed, shape):
    """The mask that pack_bits packed."""
    size = 1
    for length in shape:
        size *= length
    bits = torch.stack([packed // 2**bit % 2 > 0 for bit in range(8)])
    return bits.reshape(-1)[:size].reshape(shape)
