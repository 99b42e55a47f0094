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


def at_once(count, size):
    """How many of so many tensors of a size to work on at once: an eighth, where it is much.

    What is made on the way is then small. A compiler, which makes nothing on the way, gets all.
    """
    return count if torch.compiler.is_compiling() or count * size < 8192 else -(-count // 8)


def at_once_portable(count, size):
    """All: compilers see to memory themselves."""
    return count


def joined(parts, count):
    """Flat tensors one after another, each put into its place as it is made."""
    if torch.compiler.is_compiling():
        return torch.cat(list(parts))
    whole, start = None, 0
    for part in parts:
        if part.shape[0] == count:
            return part
        whole = part.new_empty(count) if whole is None else whole
        whole[start : start + part.shape[0]] = part
        start += part.shape[0]
        del part  # before the next is made
    return whole


def joined_portable(parts, count):
    """Flat tensors one after another."""
    return torch.cat(list(parts))


def in_parts(function, x, out):
    """A function of each element, of some at a time; ``out`` may be x."""
    result = x.new_empty(x.shape) if out is None or not out.is_contiguous() else out
    step = at_once(x.numel(), 1)
    for some, place in zip(x.reshape(-1).split(step), result.view(-1).split(step), strict=True):
        place.copy_(function(some))
    return result


def in_parts_portable(function, x, out):
    """A function of each element."""
    return function(x)


def gelu_slope(x, out=None):
    """The derivative of x P(x), with the normal distribution's share P: P(x) + x P'(x)."""
    return in_parts(
        lambda x: (
            0.5 * (1 + torch.erf(x * 0.7071067811865476))
            + x * torch.exp(-0.5 * x * x) * 0.3989422804014327
        ),
        x,
        out,
    )


def gelu_tanh_slope(x, out=None):
    """The derivative of gelu's tanh form (Hendrycks and Gimpel, "Gaussian Error Linear Units")."""

    def slope(x):
        bend = torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
        inner = 0.7978845608028654 * (1 + 0.134145 * x * x)
        return 0.5 * (1 + bend + x * (1 - bend * bend) * inner)

    return in_parts(slope, x, out)


def silu_slope(x, out=None):
    """The derivative of x s(x), with the sigmoid s: s(x) (1 + x (1 - s(x)))."""
    return in_parts(lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))), x, out)


def sum_of_products(x, z, dims, keepdim=False):
    """(x * z).sum(dims, keepdim), a part at a time; z may be `Packed`."""
    step = at_once(x.shape[0], x[0].numel())
    others, sums = iter(z.split(step)), []  # a zip would hold the last part while it has the next
    for one in x.split(step):
        other = next(others)
        sums.append((one * other).sum(dims, keepdim))
        del other
    if len(sums) == 1:
        return sums[0]
    return torch.stack(sums).sum(0) if 0 in dims or -x.dim() in dims else torch.cat(sums)


def less_products_(x, z, factor):
    """x - z * factor in the place of x; z may be `Packed`."""
    step = at_once(x.shape[0], x[0].numel())
    others = iter(z.split(step))
    for some in x.split(step):
        other = next(others)
        some.addcmul_(other, factor, value=-1)
        del other
    return x


def sum_of_products_portable(x, z, dims, keepdim=False):
    """(x * z).sum(dims, keepdim)."""
    return (x * z).sum(dims, keepdim)


def max_pool(x, count, kernel, stride, padding):
    """The largest of each window, and its place in the window, which fits a byte."""
    planes = x.flatten(0, 1)
    step = at_once(planes.shape[0], planes[0].numel())
    rows = torch.arange(count[0], device=x.device) * stride[0] - padding[0]
    columns = torch.arange(count[1], device=x.device) * stride[1] - padding[1]
    # Windows may end outside; PyTorch's floor of their count would leave those out.
    outside = [
        (n - 1) * s + k > size + 2 * p
        for n, k, s, p, size in zip(count, kernel, stride, padding, x.shape[2:], strict=True)
    ]
    best = x.new_empty(planes.shape[0], *count)
    index = torch.empty_like(best, dtype=torch.uint8)
    parts = (every.split(step) for every in (planes, best, index))
    for some, found, places in zip(*parts, strict=True):
        y, flat = F.max_pool2d(
            some, kernel, stride, padding, ceil_mode=any(outside), return_indices=True
        )
        row = (flat // x.shape[3]).sub_(rows[:, None]).mul_(kernel[1])
        places.copy_(row.add_(flat.remainder_(x.shape[3])).sub_(columns))
        found.copy_(y)
        del y, flat, row  # before those of the next part are made
    return best.unflatten(0, x.shape[:2]), index.unflatten(0, x.shape[:2])


def unpool(dy, index, shape, kernel, stride, padding):
    """Gradients put where the largest of each window was; what meets is added."""
    rows = torch.arange(dy.shape[2], device=dy.device) * stride[0] - padding[0]
    columns = torch.arange(dy.shape[3], device=dy.device) * stride[1] - padding[1]
    dx = dy.new_zeros(shape[0] * shape[1], shape[2] * shape[3])
    step = at_once(shape[0] * shape[1], shape[2] * shape[3])
    every = (t.flatten(0, 1).split(step) for t in (dy, index))
    for some, pulled, places in zip(dx.split(step), *every, strict=True):
        flat = (places // kernel[1]).long().add_(rows[:, None]).mul_(shape[3])
        flat.add_(columns).add_(places % kernel[1])
        some.scatter_add_(1, flat.flatten(1), pulled.flatten(1))
        del flat
    return dx.view(shape)


def max_windows(x, count, kernel, stride, padding):
    """The largest of each window, and its place in the window."""
    height, width = count
    bottom = max((height - 1) * stride[0] + kernel[0] - padding[0] - x.shape[2], 0)
    right = max((width - 1) * stride[1] + kernel[1] - padding[1] - x.shape[3], 0)
    padded = F.pad(x, (padding[1], right, padding[0], bottom), value=float("-inf"))
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


def less_one_(values, target, axis):
    """The values, less 1 at the right class, in their place."""
    right = target.unsqueeze(axis)
    return values.scatter_add_(axis, right, values.new_full(right.shape, -1.0))


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
    # The mask changes nothing, but hides from Inductor that these are indices: of what follows it
    # would make a single formula of the index, and take minutes to simplify it.
    place = torch.arange(size, device=device) & 2147483647
    state = (place * 1103515245 + seed * 12345 + 1) % prime
    for _ in range(3):
        state = (state * state + 48271) % prime
        state = (state * 69621 + state // 32768 + seed) % prime
    return (state < int(keep * prime)).reshape(shape)


def pack_bits(mask):
    """Eight elements a byte: those of the first eighth are the lowest bits."""
    flat = mask.reshape(-1)
    if flat.shape[0] % 8:
        flat = F.pad(flat, (0, -flat.shape[0] % 8))
    first, *others = flat.reshape(8, -1)
    packed = first.to(torch.uint8)
    for bit, eighth in enumerate(others, 1):
        packed = packed + eighth.to(torch.uint8) * 2**bit
    return packed


def unpack_bits(packed, shape):
    """The mask that pack_bits packed."""
    size = 1
    for length in shape:
        size *= length
    bits = joined((packed // 2**bit % 2 > 0 for bit in range(8)), 8 * packed.shape[0])
    return bits[:size].reshape(shape)
