"""The options of `sdtrt export`, and checks of them that do not import PyTorch."""

from dataclasses import dataclass
from pathlib import Path

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.sources import part_of, require_path_or_id
from sdtrt.export.checkpoints.spaces import valid_name
from sdtrt.export.checkpoints.weights import find_weights, listing, read_json
from sdtrt.export.folder import require_vacant
from sdtrt.export.latents.profiles import require_photos
from sdtrt.export.latents.sample_images import list_photos


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `sdtrt export`.

    Attributes:
        model: Path of a checkpoint, or its id on the hub.
        out: Folder of the new bundle.
        latent_space: Name of its latent space; None to identify it by the checkpoint.
        half: Whether networks are also written in half precision.
        unet: Whether the UNet is exported.
        edit: Whether the graphs are edited so that they run faster; see `export.edits`.
        photos: Folder of photos to measure or check the latents on.
        revision: Branch, tag or commit on the hub.
        variant: Variant of the weights, such as fp16; None for the usual or only ones.
        allow_pickle: Whether pickled weights are read.
        force: Whether an existing bundle is replaced.
        quiet: Whether stages are not printed.
        verbose: Whether messages of libraries are shown.
    """

    model: str
    out: Path
    latent_space: str | None = None
    half: bool = True
    unet: bool = False
    edit: bool = True
    photos: Path | None = None
    revision: str | None = None
    variant: str | None = None
    allow_pickle: bool = False
    force: bool = False
    quiet: bool = True
    verbose: bool = False

    def check(self) -> None:
        """Raise `BundleError` or `ValueError` for invalid options; weights are not read."""
        require_vacant(self.out, force=self.force)
        require_path_or_id(self.model)
        if self.latent_space is not None:
            valid_name(self.latent_space)
            if self.photos is None:
                require_photos(self.latent_space)
        if self.photos is not None:
            list_photos(self.photos)
        path = Path(self.model)
        if not path.exists():
            return
        if self.revision is not None:
            raise ValueError(f"--revision applies to models on the hub, but {self.model} is a local folder or file")
        find_weights(part_of(path, "vae"), variant=self.variant, allow_pickle=self.allow_pickle)
        if self.unet:
            self._check_unet(path)

    def _check_unet(self, path: Path) -> None:
        if path.is_file():
            raise BundleError(f"{path} is a single file; for a UNet name a diffusers folder or a hub id")
        place = part_of(path, "unet")
        if place == path:
            raise BundleError(f"{path} has no folder unet; name a pipeline's folder; {listing(path)}")
        find_weights(place, variant=self.variant, allow_pickle=self.allow_pickle)
        config = place / "config.json"
        conditional = config.is_file() and read_json(config).get("_class_name") == "UNet2DConditionModel"
        if conditional and not (path / "text_encoder" / "config.json").is_file():
            raise BundleError(
                f"{path} has no text_encoder, which a UNet with a prompt needs; name the folder or hub id of a "
                f"complete pipeline; {listing(path)}"
            )
