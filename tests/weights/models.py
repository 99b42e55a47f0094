"""Models of many kinds of modules, small but above the size that is left alone."""

import copy
from itertools import pairwise

import torch
from torch import nn


class Everything(nn.Module):
    """Embedding, convolution, attention, LSTM, a parameter of its own, a tied head, and buffers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(300, 64)
        self.conv = nn.Conv1d(64, 64, 3, padding=1)
        self.norm = nn.BatchNorm1d(64)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.block = nn.TransformerEncoderLayer(64, 4, 96, batch_first=True)
        self.lstm = nn.LSTM(64, 64, batch_first=True)
        self.own = nn.Parameter(torch.randn(64, 64))
        self.head = nn.Linear(64, 300, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        x = self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2)
        x, _ = self.attention(x, x, x, need_weights=False)
        x = self.lstm(self.block(x))[0] @ self.own.T
        return self.head(x)


def ids():
    return torch.arange(18).view(2, 9) * 7 % 300


def layers(*widths):
    """Linear layers with ReLU between them."""
    found = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*(m for layer in found for m in (layer, nn.ReLU())))[:-1]


def frozen_like(plain, packed):
    """The plain model with the same parameters frozen: what is frozen decides PyTorch's paths."""
    frozen = copy.deepcopy(plain)
    for mine, its in zip(frozen.parameters(), packed.parameters(), strict=True):
        mine.requires_grad_(its.requires_grad)
    return frozen
