"""More inputs from the calibration inputs: shifted, mirrored and mixed, with the float32 network as their teacher.

No label is needed for them: what the float32 network answers is the target. Shifts and mirror images are the usual
ones of image classification; mixing two samples is mixup (Zhang, Cisse, Dauphin, Lopez-Paz, ICLR 2018) on inputs
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F

from qsim.errors import UserError

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
SHIFT = 8  # images move by up to one such part of their sides


def augmented(
    values: Mapping[str, torch.Tensor], names: Sequence[str], generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """A batch {input: [samples, ...]} after each of the augmentations `names`; the inputs of a sample change
    together. Only floating-point inputs are mixed, only [samples, channels, height, width] shifted and mirrored.
    """
    result = dict(values)
    for name in names:
        state = generator.get_state()
        for key, value in result.items():
            generator.set_state(state)
            result[key] = AUGMENTATIONS[name](value, generator)
    return result


def shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by its own whole number of pixels; what comes in repeats the edge."""
    if images.dim() != 4 or not images.is_floating_point():
        return images
    height, width = images.shape[2:]
    far = max(height // SHIFT, 1), max(width // SHIFT, 1)
    padded = F.pad(images, (far[1], far[1], far[0], far[0]), mode="replicate")
    top, left = (torch.randint(0, 2 * most + 1, (len(images),), generator=generator) for most in far)
    windows = zip(padded, top.tolist(), left.tolist(), strict=True)
    return torch.stack([image[:, y : y + height, x : x + width] for image, y, x in windows])


def mirror(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images with left and right exchanged."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    if images.dim() != 4:
        return images
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def mix(samples: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each sample with a share, below a half, of another."""
    share = torch.rand(len(samples), generator=generator) / 2
    other = torch.randperm(len(samples), generator=generator)
    if not samples.is_floating_point():
        return samples
    share = share.reshape(-1, *(1,) * (samples.dim() - 1))
    return (1 - share) * samples + share * samples[other]


AUGMENTATIONS: Mapping[str, Augment] = {"shift": shift, "mirror": mirror, "mix": mix}


def check_augmentations(names: Sequence[str]) -> tuple[str, ...]:
    """`names`; UserError for one that is unknown."""
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise UserError(f"ptq.after: augment '{unknown[0]}' is unknown; there are {', '.join(AUGMENTATIONS)}")
    return tuple(names)
