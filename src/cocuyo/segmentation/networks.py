"""The networks of the paper in torch: U-Net with ASPP, convolutional GRU, classifier.

Shapes are batch, channels, height, width; a step of the recurrence is one call.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cocuyo.segmentation.settings import OutlineConfig, TemporalConfig, UNetConfig

Maps = Float[Tensor, "batch channels height width"]


class DoubleConvolution(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU (Ronneberger et al. 2015)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Maps) -> Maps:
        """Filter the maps; height and width stay."""
        return self.layers(maps)  # type: ignore[no-any-return]  # nn.Sequential is untyped


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017, section 3.3).

    Parallel views of one map: 1x1, one 3x3 per dilation, and the map's mean; joined by a
    1x1 convolution.
    """

    def __init__(self, n_in: int, n_out: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_unit(n_in, n_out, 1)] + [_unit(n_in, n_out, 3, dilation=rate) for rate in rates]
        )
        # No batch norm on the pooled branch: it has one value per channel.
        self.pooled = nn.Sequential(nn.Conv2d(n_in, n_out, 1), nn.ReLU(inplace=True))
        self.join = _unit((len(rates) + 2) * n_out, n_out, 1)

    def forward(self, maps: Maps) -> Maps:
        """Look at the maps at several widths; height and width stay."""
        mean = self.pooled(maps.mean(dim=(2, 3), keepdim=True))
        views = [branch(maps) for branch in self.branches]
        views.append(mean.expand(-1, -1, maps.shape[2], maps.shape[3]))
        return self.join(torch.cat(views, dim=1))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """U-Net with ASPP as bottleneck: a frame in, the logit of "cell" per pixel out.

    Source: the paper, section 3, with Ronneberger et al. 2015 and Chen et al. 2017. With
    ``stem_stride`` 2 a strided convolution leads in and a transposed one leads out.

    Parameters
    ----------
    config : UNetConfig
        Widths and rates.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = [config.base_width * 2**level for level in range(config.n_levels + 1)]
        stride = config.stem_stride
        self.stem: nn.Module = (
            nn.Identity() if stride == 1 else _unit(1, widths[0], 3, stride=stride)
        )
        first = 1 if stride == 1 else widths[0]
        self.down = nn.ModuleList(
            [
                DoubleConvolution(n_in, n_out)
                for n_in, n_out in zip([first, *widths[:-2]], widths[:-1], strict=True)
            ]
        )
        self.bottleneck = AtrousPyramid(widths[-2], widths[-1], config.aspp_rates)
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(n_in, n_out, 2, stride=2)
                for n_in, n_out in zip(widths[:0:-1], widths[-2::-1], strict=True)
            ]
        )
        self.decode = nn.ModuleList(
            [DoubleConvolution(2 * width, width) for width in widths[-2::-1]]
        )
        self.head: nn.Module = (
            nn.Conv2d(widths[0], 1, 1)
            if stride == 1
            else nn.ConvTranspose2d(widths[0], 1, 2, stride=2)
        )

    def forward(
        self, frame: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        """Return logits; height and width are multiples of `engine.unet_multiple`."""
        maps = self.stem(frame)
        skips = []
        for block in self.down:
            maps = block(maps)
            skips.append(maps)
            maps = functional.max_pool2d(maps, 2)
        maps = self.bottleneck(maps)
        for grow, block, skip in zip(self.up, self.decode, reversed(skips), strict=True):
            maps = block(torch.cat([grow(maps), skip], dim=1))
        return self.head(maps)  # type: ignore[no-any-return]


class ConvGRUCell(nn.Module):
    """One convolutional gated recurrent unit (Siam et al. 2016, equations 5 to 8).

    ``z = s(W_z * [x, h])``, ``r = s(W_r * [x, h])``, ``n = tanh(W_n * [x, r h])``,
    ``h' = (1 - z) h + z n``, where ``*`` is a convolution.

    Parameters
    ----------
    n_in, hidden, kernel : int
        Input channels, channels of the hidden state, side of the kernel (odd).
    update_bias : float
        Start value of the update gate's bias; negative remembers longer at first.
    """

    def __init__(self, n_in: int, hidden: int, kernel: int, *, update_bias: float = 0.0) -> None:
        super().__init__()
        padding = kernel // 2
        self.hidden = hidden
        self.gates = nn.Conv2d(n_in + hidden, 2 * hidden, kernel, padding=padding)
        self.candidate = nn.Conv2d(n_in + hidden, hidden, kernel, padding=padding)
        if self.gates.bias is not None and update_bias:
            with torch.no_grad():
                self.gates.bias[:hidden] += update_bias

    def forward(self, inputs: Maps, state: Maps) -> Maps:
        """Return the next hidden state."""
        gates = torch.sigmoid(self.gates(torch.cat([inputs, state], dim=1)))
        update, reset = torch.split(gates, self.hidden, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([inputs, reset * state], dim=1)))
        return (1 - update) * state + update * candidate


class TemporalNetwork(nn.Module):
    """Convolutional GRU and classifier: segmented frames in, one mask out.

    Source: the paper, sections 3 and 4: one cell, hidden size 8, classifier of convolution,
    batch norm and sigmoid on the final hidden state.

    Parameters
    ----------
    config : TemporalConfig
        Inputs, read-out and sizes.
    update_bias : float
        Start value of the update gate's bias.
    norm_start : tuple of float
        Start weight and bias of the classifier's batch norm. With few positive pixels the
        usual (1, 0) keeps logits near zero for long; (4, -3) does not.
    """

    def __init__(
        self,
        config: TemporalConfig,
        *,
        update_bias: float = 0.0,
        norm_start: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        super().__init__()
        self.n_inputs = 2 if config.contrast_input else 1
        self.hidden = config.hidden
        self.keep_maximum = config.readout == "final and maximum"
        self.cell = ConvGRUCell(
            self.n_inputs, config.hidden, config.kernel, update_bias=update_bias
        )
        n_read = config.hidden * (2 if self.keep_maximum else 1)
        self.convolution = nn.Conv2d(n_read, 1, config.kernel, padding=config.kernel // 2)
        self.norm = nn.BatchNorm2d(1)
        with torch.no_grad():
            self.norm.weight.fill_(norm_start[0])
            self.norm.bias.fill_(norm_start[1])

    def start(self, batch: int, height: int, width: int) -> tuple[Maps, Maps]:
        """Return the hidden state and its maximum before the first step: zeros."""
        zeros = torch.zeros(batch, self.hidden, height, width)
        return zeros, torch.full_like(zeros, -1.0)

    def step(self, inputs: Maps, state: Maps, maximum: Maps) -> tuple[Maps, Maps]:
        """Take one step; return the hidden state and its running maximum."""
        state = self.cell(inputs, state)
        return state, torch.maximum(maximum, state)

    def classify(self, state: Maps, maximum: Maps) -> Float[Tensor, "batch 1 height width"]:
        """Return logits of "functional" (the sigmoid is left to loss and engine)."""
        seen = torch.cat([state, maximum], dim=1) if self.keep_maximum else state
        return self.norm(self.convolution(seen))  # type: ignore[no-any-return]

    def forward(self, inputs: Maps, state: Maps, maximum: Maps) -> tuple[Maps, Maps]:
        """Take one step, as `step`."""
        return self.step(inputs, state, maximum)


class OutlineNetwork(nn.Module):
    """Small U-Net that draws the outline of one candidate and says whether it is a neuron.

    Parameters
    ----------
    n_channels : int
        Channels of a view.
    config : OutlineConfig
        Widths.
    """

    def __init__(self, n_channels: int, config: OutlineConfig) -> None:
        super().__init__()
        fine, middle, coarse = (config.base_width * k for k in (1, 2, 3))
        self.fine = DoubleConvolution(n_channels, fine)
        self.middle = DoubleConvolution(fine, middle)
        self.coarse = DoubleConvolution(middle, coarse)
        self.up_middle = nn.ConvTranspose2d(coarse, middle, 2, stride=2)
        self.decode_middle = DoubleConvolution(2 * middle, middle)
        self.up_fine = nn.ConvTranspose2d(middle, fine, 2, stride=2)
        self.decode_fine = DoubleConvolution(2 * fine, fine)
        self.head = nn.Conv2d(fine, 1, 1)
        self.judge = nn.Sequential(
            nn.Linear(coarse + fine, 32), nn.ReLU(inplace=True), nn.Linear(32, 1)
        )

    def forward(
        self, views: Maps
    ) -> tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch 1"]]:
        """Return logits of "its soma" per pixel, and of "a functional neuron" per view."""
        fine = self.fine(views)
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        maps = self.decode_middle(torch.cat([self.up_middle(coarse), middle], dim=1))
        maps = self.decode_fine(torch.cat([self.up_fine(maps), fine], dim=1))
        outline = self.head(maps)
        # What lies in the outline, and the whole view.
        inside = torch.sigmoid(outline)
        own = (maps * inside).sum(dim=(2, 3)) / (inside.sum(dim=(2, 3)) + 1)
        score = self.judge(torch.cat([own, coarse.mean(dim=(2, 3))], dim=1))
        return outline, score


def _unit(n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(
            n_in, n_out, kernel, stride=stride, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )
