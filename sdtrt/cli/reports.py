"""The commands `info`, `verify`, `models` and `doctor`. The module imports neither NumPy nor Pillow, for `info`."""

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sdtrt import file_info
from sdtrt.cli.batch import Record, each_file
from sdtrt.cli.files import read_input
from sdtrt.cli.messages import fail
from sdtrt.cli.parsers.arguments import limits_of
from sdtrt.errors import SdtrtError
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import counted, printable

if TYPE_CHECKING:
    from sdtrt.engine.networks.bundle import Bundle

LINE = (
    "{width}x{height}, {counted_channels}, {counted_bytes}, {bits_per_pixel:.4f} bits per pixel, "
    "method {method}, quality {quality}, latent space {latent_space}, prior {prior}"
)


def info(options: argparse.Namespace) -> int:
    limits = limits_of(options)

    def work(source: str, _: str) -> Record:
        return asdict(file_info.info(read_input(source), limits=limits))

    line = info_line if len(options.inputs) > 1 else info_table
    return each_file(options, options.inputs, work, line, always=True)


def info_line(record: Record) -> str:
    """Return a line about a file."""
    numbers = {
        "counted_channels": counted(record["channels"], "channel"),
        "counted_bytes": counted(record["nbytes"], "byte"),
    }
    return LINE.format(**record, **numbers)


def info_table(record: Record) -> str:
    """Return a line about a file, and a table of its bytes by section."""
    columns, rows = record["tiles"]
    lines = [info_line(record)]
    if columns * rows > 1:
        lines.append(f"tiles: {columns} across, {rows} down")
    if record["model_prior"]:
        lines.append(f"latents: coded with prior {record['model_prior']} of a model")
    if not record["allows_fast"]:
        lines.append("look fast: has no effect, since the residual needs the faithful decoder")
    sections = {name: nbytes for name, nbytes in record["bytes_by_section"].items() if nbytes}
    lines += [f"{name:8} {nbytes:>12,} bytes {nbytes / record['nbytes']:>6.1%}" for name, nbytes in sections.items()]
    return "\n    ".join(lines)


def verify(options: argparse.Namespace) -> int:
    limits = limits_of(options)

    def work(source: str, _: str) -> Record:
        unchecked = file_info.verify(read_input(source), limits=limits)
        return {"unchecked": unchecked} if unchecked else {}

    return each_file(options, options.inputs, work, verify_line, always=True)


def verify_line(record: Record) -> str:
    return f"ok, but {record['unchecked']}" if "unchecked" in record else "ok"


def models(options: argparse.Namespace) -> int:
    from sdtrt.engine.networks.bundle import Bundle, bundle_folders, models_folder_error

    found, broken = [], 0
    for folder in bundle_folders():
        try:
            found.append(Bundle.open(folder))
        except SdtrtError as error:
            broken = fail(str(error))
    folder_error = models_folder_error()
    if folder_error:
        fail(folder_error)
    if options.json:
        print_json([record_of(bundle) for bundle in found])
        return broken
    for bundle in found:
        unet = ", with a UNet" if bundle.unet else ""
        looks = ", ".join(bundle.looks)
        look = f", looks {looks} ({bundle.look} by default)" if len(bundle.looks) > 1 else ""
        prior = ", with a prior" if bundle.prior else ""
        text = f"{bundle.name}: latent space {bundle.latent_space}{prior}{unet}{look}, {bundle.folder}"
        print_result(printable(text))
    if not folder_error and all(bundle.is_built_in for bundle in found):
        print_message("sdtrt export and sdtrt import make more models, in the folder that $SDTRT_MODELS names")
    return broken


def record_of(bundle: "Bundle") -> Record:
    unet, recommended = bundle.unet, bundle.unet and bundle.unet.recommended
    auto = recommended and {"steps": recommended.steps, "from_step": recommended.min_quant_step}
    return asdict(replace(bundle, unet=None)) | {
        "looks": bundle.looks,
        "unet": unet and {"multiple": unet.multiple, "auto": auto},
    }


def doctor(options: argparse.Namespace) -> int:
    from sdtrt.doctor import examine, measure

    failures = measure(print_message) if options.measure else []
    for failure in failures:
        fail(failure)
    findings = examine()
    if options.json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = {True: "yes", False: "NO", None: "-"}[finding.ok]
            print_result(printable(f"{finding.subject:28} {mark:4} {finding.detail}"))
    return 1 if failures or any(finding.ok is False for finding in findings) else 0
