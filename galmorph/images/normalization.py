"""Normalization: from flux in nanomaggies to the picture that a model was trained on.

Everything that a network must see the same way as in training is plain data in a :class:`Normalization`, which travels
inside the model's card: bands, colour mapping, framing, input size, mean and standard deviation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from galmorph.errors import ModelError
from galmorph.images.colours import MAPPINGS, ZOO
from galmorph.images.framing import Framing
from galmorph.images.gpu.tensors import constant
from galmorph.images.sizes import MAX_INPUT_PX, MIN_INPUT_PX

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Normalization:
    """Preprocessing of a model for one survey.

    Attributes
    ----------
    kind : str
        ``lupton`` (viewers of the Legacy Surveys and SDSS) or ``galaxyzoo_decals`` (pictures of Galaxy Zoo DECaLS).
        ``picture``: the image is a colour picture already.
    bands : tuple of str
        The bands that become red, green and blue.
    scales : tuple of float
        Of each band: factor of the flux (``lupton``) or divisor (``galaxyzoo_decals``), for nanomaggies per pixel of
        ``flux_pixscale``.
    flux_pixscale : float
        Arcsec; the scales hold for flux per pixel of this size.
    framing : Framing
    input_size : int
        Side of the network's input in pixels.
    mean, std : tuple of float
        RGB in 0..1 is normalised by these.
    softening, offset : float
        Q and m of the ``lupton`` mapping.
    grey : bool
        Whether the network sees the mean of the three colours in all of them.
    """

    kind: str
    bands: tuple[str, ...]
    scales: tuple[float, ...]
    flux_pixscale: float
    framing: Framing
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    softening: float = 20.0
    offset: float = 0.0
    grey: bool = False

    def __post_init__(self) -> None:
        if self.kind not in MAPPINGS:
            raise ModelError(f"Unknown colour mapping {self.kind!r}; choose one of {', '.join(MAPPINGS)}.")
        if len(self.bands) != 3 or len(self.scales) != 3 or not min(self.scales) > 0:
            raise ModelError("A normalization needs three bands (red, green, blue) and three positive scales.")
        if not (MIN_INPUT_PX <= self.input_size <= MAX_INPUT_PX and self.flux_pixscale > 0 and self.softening > 0):
            raise ModelError(
                f"A normalization needs an input size of {MIN_INPUT_PX} to {MAX_INPUT_PX} px, and a pixel scale and a "
                "softening greater than 0."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ModelError("A normalization needs three means and three standard deviations greater than 0.")

    def rgb(self, flux: Tensor | Sequence[Tensor]) -> Tensor:
        """Map flux to colours.

        Parameters
        ----------
        flux : Tensor, float32, shape (n, 3, y, x), or sequence of n Tensors (3, y, x)
            In the order of ``bands``, nanomaggies per pixel of ``flux_pixscale``.

        Returns
        -------
        Tensor, float32, shape (n, 3, y, x)
            Red, green, blue in 0..1, rows as they came (a published picture shows them flipped, north up).
        """
        import torch

        mapping = MAPPINGS[self.kind]
        factors = np.array([mapping.factor(scale) for scale in self.scales], np.float32)[:, None, None]
        if flux[0].device.type != "cpu":
            flux = flux if isinstance(flux, torch.Tensor) else torch.stack(list(flux))
            scales = constant(factors.ravel().tolist(), flux.device).view(3, 1, 1)
            return mapping.colours(flux * scales, torch, self.softening, self.offset)
        # NumPy's operations take less time than torch's there, and one picture stays in the core's cache.
        result = np.empty((len(flux), *flux[0].shape), np.float32)
        for scaled, one in zip(result, flux, strict=True):
            np.multiply(one.numpy(), factors, out=scaled)
            mapping.colours(scaled, np, self.softening, self.offset)
        return torch.from_numpy(result)

    def network_inputs(self, flux: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the network's inputs of flux: :meth:`rgb`, then :meth:`network_input`; on a GPU in one step if it can.

        Where the two steps read and write each pixel some twenty times, one kernel does it once, to within 1e-5.
        """
        import torch

        fuses = self.kind == "galaxyzoo_decals" and not self.grey
        if fuses and isinstance(flux, torch.Tensor) and flux.is_cuda and (kernel := fused_kernel(flux.device)):
            device = flux.device
            factors = constant([1 / scale for scale in self.scales], device)
            return kernel(flux, factors, constant(self.mean, device), constant(self.std, device), **ZOO)
        rgb = self.rgb(flux)
        return self.network_input(rgb, out=rgb)

    def fill(self, inputs: Tensor, flux: Tensor | Sequence[Tensor]) -> None:
        """Fill network inputs (n, 3, y, x) with flux, as `network_inputs` does.

        On the CPU picture by picture, which takes less than half the time: one stays in a core's cache.

        Parameters
        ----------
        inputs : Tensor, float32, shape (n, 3, y, x)
            In any memory format.
        flux : Tensor or sequence of n Tensors
            As `rgb` takes it.
        """
        if inputs.device.type != "cpu":
            inputs[:] = self.network_inputs(flux)
            return
        for picture, one in zip(inputs, flux, strict=True):
            picture[:] = self.network_inputs(one[None])[0]

    def network_input(self, rgb: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Normalise colours in 0..1, shape (n, 3, y, x), for the network; into `out`, which may be `rgb`."""
        import torch

        if self.grey:
            rgb = rgb.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        mean, std = (constant(values, rgb.device).to(rgb.dtype).view(3, 1, 1) for values in (self.mean, self.std))
        return torch.sub(rgb, mean, out=out).div_(std)


@cache
def fused_kernel(device: torch.device) -> Callable[..., Tensor] | None:
    """Return the kernel of `galaxyzoo_decals` for a GPU; None where Triton or the compiler that it needs is absent."""
    import torch

    try:
        from galmorph.images.gpu.triton_colours import galaxyzoo_decals

        some = torch.ones(1, 3, 1, 1, device=device)
        galaxyzoo_decals(some, some.flatten(), some.flatten(), some.flatten(), **ZOO)
    except Exception as error:  # whatever a compiler says
        log.debug("Colours are computed step by step: %s", error)
        return None
    return galaxyzoo_decals
